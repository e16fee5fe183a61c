//! VMs that die with those who wait in them, Envoys that end with calls under way, and clients that take for ever.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    cost::{Allowed, Cost},
    scene::{ON_DYNAMODB, ON_POSTGRES, ON_REDIS, SHARED_DATA, Scene, asked, attempt},
};
use crate::{
    bench::{Lot, Request, Setup, encode},
    plan::Deployment,
    stores::Server,
};

pub(crate) const INLINE: Deployment = Deployment { can_crash: true, ..SHARED_DATA };
pub(crate) const WAITING: Deployment = Deployment { waits: true, ..INLINE };
pub(crate) const DETACHED: Deployment = Deployment { is_detached: true, ..WAITING };
pub(crate) const ON_REDIS_WAITING: Deployment = Deployment { waits: true, can_crash: true, ..ON_REDIS };
pub(crate) const ON_POSTGRES_WAITING: Deployment = Deployment { waits: true, can_crash: true, ..ON_POSTGRES };
pub(crate) const ON_DYNAMODB_WAITING: Deployment = Deployment { waits: true, can_crash: true, ..ON_DYNAMODB };

/// Streams of a VM that has died end when Envoy finds that nothing moves in them.
pub(crate) async fn of_a_vm(deployment: Deployment) -> Cost {
    const PANICS: usize = 8;

    let server = Server::start(deployment.store).await;
    let store: Vec<_> = server.iter().map(Server::address).collect();
    let setup = deployment.setup().connection_manager(json!({ "stream_idle_timeout": "3s" }));
    let scene = Scene::begin(deployment, &setup, &vec![store; deployment.envoys]).await;
    let mut lot = Lot::new(11);
    for number in 0..PANICS {
        sleep(Duration::from_millis(700)).await;
        let moment = ["request-headers", "response-headers", "log"][number % 3];
        let mut attempt = attempt(asked(5_000 + number as u64), deployment.envoys, Duration::ZERO, &mut lot);
        attempt.crash = Some(moment);
        scene.stage.make(attempt).await;
    }
    sleep(Duration::from_secs(1)).await;
    let reloads = reloads(&scene).await;
    let cost = scene.end_as_promised().await;
    assert!(reloads >= PANICS as u64 / 2, "only {reloads} VMs came back");
    cost
}

async fn reloads(scene: &Scene) -> u64 {
    let mut reloads = 0;
    for envoy in &scene.envoys {
        reloads += envoy.stat("wasm.idemgate.vm_reload_success").await.unwrap_or_default();
    }
    reloads
}

/// An operator ends it, and another one takes its place.
pub(crate) async fn of_an_envoy(deployment: Deployment) -> Cost {
    const CALLS: u64 = 500;
    // A store is asked for no more at a time than it answers in time on a busy machine.
    const AT_A_TIME: u64 = 25;

    let deployment = Deployment { is_detached: true, envoys: 1, ..deployment };
    let server = Server::start(deployment.store).await;
    let store: Vec<_> = server.iter().map(Server::address).collect();
    let mut configuration = deployment.configuration();
    configuration["execution"] = json!({ "mode": "detached", "timeout": "60s" });
    // Whichever clients they are, and with whichever worker.
    configuration["limits"]["caller_share"] = json!("100%");
    let setup: Setup = deployment.setup_with(configuration);
    let mut scene = Scene::without_clients(deployment, &[(setup.clone(), store)]).await;
    let mut lot = Lot::new(13);
    let mut clients = Vec::new();
    for number in 0..CALLS {
        let attempt = attempt(asked(number), 1, Duration::from_secs(60), &mut lot);
        let stage = Arc::clone(&scene.stage);
        clients.push(tokio::spawn(async move { stage.make(attempt).await }));
        if (number + 1).is_multiple_of(AT_A_TIME) {
            scene.envoys[0].reaches_stat("wasmcustom.idemgate.detached", number + 1).await;
        }
    }
    scene.envoys[0].terminate().await;
    let until = scene.now();
    for client in clients {
        client.await.expect("each request of a client ends");
    }
    let _ended = scene.envoys[0].replace(&setup).await;
    scene.publish();
    // In shared data the records go with the process.
    let allowed = if deployment.is_remote() { Allowed::Once } else { Allowed::TwiceAndSome(vec![(0, until)]) };
    scene.end(allowed).await
}

/// Others are served while they send ten bytes in a second.
pub(crate) async fn of_nobody_with_slow_clients() -> Cost {
    const SLOW: usize = 200;

    let scene = Scene::begin(SHARED_DATA, &SHARED_DATA.setup(), &[vec![]]).await;
    let address = scene.envoys[0].address();
    let request = encode(&Request::post("/orders/slow").key("slow").body("x".repeat(10_000)));
    let over = Instant::now() + Duration::from_secs(5);
    let slow: Vec<_> = (0..SLOW)
        .map(|_| {
            let request = request.clone();
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("Envoy accepts");
                for piece in request.chunks(1) {
                    if Instant::now() > over || stream.write_all(piece).await.is_err() {
                        return Instant::now() > over;
                    }
                    sleep(Duration::from_millis(100)).await;
                }
                true
            })
        })
        .collect();
    for slow in slow {
        let lasted = timeout(Duration::from_secs(20), slow).await.expect("in time").expect("no panic");
        assert!(lasted, "Envoy has hung up on a slow client");
    }
    scene.end_as_promised().await
}
