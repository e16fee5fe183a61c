//! A server that keeps all its records, and fails again and again.

use std::time::Duration;

use tokio::time::sleep;

use super::{cost::Cost, scene::Scene};
use crate::{fault::Fault, plan::Deployment, record::Fact, stores::Server};

const CALM: Duration = Duration::from_millis(1_000);

/// How long it fails each time.
const TIME: Duration = Duration::from_millis(1_000);

pub(crate) async fn suffer(deployment: Deployment, fault: Fault) -> Cost {
    let mut server = Server::start(deployment.store).await.expect("a store that has a server");
    // What stalls is over before a lease is.
    let deployment = Deployment { lease: Duration::from_secs(4), ..deployment };
    let stores = vec![vec![server.address()]; deployment.envoys];
    let scene = Scene::begin(deployment, &deployment.setup(), &stores).await;
    for number in 0..3 {
        sleep(CALM).await;
        scene.note(Fact::Begins(fault));
        server.fail(fault, TIME, number, &scene.stage.record).await;
        scene.note(Fact::Ends(fault));
    }
    sleep(CALM).await;
    scene.end_as_promised().await
}
