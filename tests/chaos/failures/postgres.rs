//! PostgreSQL with a standby, and PgBouncer in front of it.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    cost::{Allowed, Cost},
    scene::{ON_POSTGRES, Scene},
};
use crate::{
    bench::{Pgbouncer, PostgresServer, Release},
    fault::Fault,
    record::Fact,
    stores::Postgres,
};

/// The standby that takes over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standby {
    /// It has all that was confirmed.
    Synchronous,
    /// It lacks what was confirmed last.
    Behind,
}

/// How far behind.
const LAG: Duration = Duration::from_millis(300);

/// How long it may take a busy machine to let the service see what was granted, or the standby what was written.
const LATE: u64 = 1_000;

const CALM: Duration = Duration::from_millis(2_000);

/// The cluster names both, and nobody tells the filter which of them is the primary.
pub(crate) async fn fails_over(standby_is: Standby) -> Cost {
    let mut primary = PostgresServer::with(Release::Debian, &[]).await;
    primary.sql("ALTER ROLE envoy SET statement_timeout = '400ms'").await;
    let standby = primary.standby().await;
    if standby_is == Standby::Synchronous {
        primary.waits_for_its_standby().await;
    }
    let hosts = vec![primary.address(), standby.address()];
    let scene = Scene::begin(ON_POSTGRES, &ON_POSTGRES.setup(), &[hosts.clone(), hosts]).await;
    sleep(CALM).await;
    let since = scene.now();
    scene.note(Fact::Begins(Fault::StoreKilled));
    if standby_is == Standby::Behind {
        standby.is_cut_off().await;
        sleep(LAG).await;
    }
    primary.kill();
    let until = scene.now();
    standby.promote().await;
    scene.note(Fact::Ends(Fault::StoreKilled));
    sleep(CALM).await;
    assert!(!standby.backends().await.is_empty(), "no Envoy has found the new primary");
    match standby_is {
        Standby::Synchronous => scene.end_as_promised().await,
        Standby::Behind => scene.end(Allowed::TwiceAndSome(vec![(since.saturating_sub(LATE), until + LATE)])).await,
    }
}

/// Its operator pauses it, and lets it go on.
pub(crate) async fn pooler_is_paused() -> Cost {
    let server = Postgres::start(true).await;
    let pool = Pgbouncer::start(server.server()).await;
    let scene = Scene::begin(ON_POSTGRES, &ON_POSTGRES.setup(), &[vec![pool.address()], vec![pool.address()]]).await;
    for _ in 0..3 {
        sleep(CALM / 2).await;
        scene.note(Fact::Begins(Fault::ConnectionsTaken));
        pool.command("PAUSE").await;
        sleep(Duration::from_secs(1)).await;
        pool.command("RESUME").await;
        scene.note(Fact::Ends(Fault::ConnectionsTaken));
    }
    sleep(CALM / 2).await;
    scene.end_as_promised().await
}

/// What is behind it crashes, and comes back.
pub(crate) async fn is_killed_behind_a_pooler() -> Cost {
    let mut server = PostgresServer::start().await;
    server.sql("ALTER ROLE envoy SET statement_timeout = '400ms'").await;
    let pool = Pgbouncer::start(&server).await;
    let scene = Scene::begin(ON_POSTGRES, &ON_POSTGRES.setup(), &[vec![pool.address()], vec![pool.address()]]).await;
    for _ in 0..2 {
        sleep(CALM / 2).await;
        scene.note(Fact::Begins(Fault::StoreKilled));
        server.kill();
        sleep(Duration::from_millis(500)).await;
        server.restart().await;
        scene.note(Fact::Ends(Fault::StoreKilled));
    }
    sleep(CALM).await;
    scene.end_as_promised().await
}
