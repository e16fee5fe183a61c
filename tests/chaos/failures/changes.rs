//! Changes of the configuration and of the module, by LDS, and of the whole process, while clients ask.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::{
    cost::{Allowed, Cost},
    scene::{SHARED_DATA, Scene},
};
use crate::{
    bench::{HotRestart, Setup, free_port},
    plan::Deployment,
    stores::Server,
};

const CALM: Duration = Duration::from_millis(500);

/// Each of these in turn takes the place of what was there before.
async fn change(scene: &Scene, setups: &[Setup], times: usize) {
    for number in 0..times {
        sleep(CALM).await;
        for envoy in &scene.envoys {
            envoy.reconfigure(&setups[number % setups.len()]).await;
        }
    }
    sleep(CALM).await;
}

pub(crate) async fn of_settings(deployment: Deployment) -> Cost {
    let server = Server::start(deployment.store).await;
    let store: Vec<_> = server.iter().map(Server::address).collect();
    let setups = [
        json!({ "lease": "3s" }),
        json!({ "ttl": "2h" }),
        json!({ "duplicates": { "in_flight": "wait", "wait_timeout": "700ms" } }),
        json!({ "execution": { "mode": "detached", "timeout": "2s" } }),
        json!({
            "execution": { "mode": "detached", "timeout": "3s" },
            "duplicates": { "in_flight": "wait", "wait_timeout": "500ms" },
        }),
        json!({ "limits": { "request_body": "64KiB", "response_body": "32KiB" } }),
        json!({}),
    ]
    .map(|changed| {
        let mut configuration = deployment.configuration();
        for (name, value) in changed.as_object().into_iter().flatten() {
            configuration[name] = value.clone();
        }
        deployment.setup_with(configuration).discovered()
    });
    let stores = vec![store; deployment.envoys];
    let scene = Scene::begin(deployment, &deployment.setup().discovered(), &stores).await;
    change(&scene, &setups, 14).await;
    scene.end_as_promised().await
}

/// What a key stands for changes, and with it every key becomes another one.
pub(crate) async fn of_the_identity() -> Cost {
    let identities =
        [json!([{ "header": "authorization" }, { "header": "content-type" }]), json!([{ "header": "authorization" }])];
    let setups = identities.map(|identity| {
        let mut configuration = SHARED_DATA.configuration();
        configuration["caller"] = json!({ "identity": identity });
        SHARED_DATA.setup_with(configuration).discovered()
    });
    let scene = Scene::begin(SHARED_DATA, &setups[1], &[vec![]]).await;
    change(&scene, &setups, 6).await;
    let until = scene.now();
    scene.end(Allowed::TwiceAndSome(vec![(0, until)])).await
}

/// Two builds of the module take turns.
pub(crate) async fn of_the_module() -> Cost {
    let released = SHARED_DATA.setup().discovered();
    let other = Deployment { can_crash: true, ..SHARED_DATA }.setup().discovered();
    let scene = Scene::begin(SHARED_DATA, &released, &[vec![]]).await;
    change(&scene, &[other, released], 6).await;
    scene.end_as_promised().await
}

/// Another process takes the listener over, and the one before ends once it has drained.
pub(crate) async fn of_the_process(deployment: Deployment, is_detached: bool) -> Cost {
    let (server, id) = (Server::start(deployment.store).await, free_port());
    let store = server.iter().map(Server::address).collect();
    let deployment = Deployment { envoys: 1, is_detached, ..deployment };
    let setup = |epoch| deployment.setup().hot_restart(HotRestart { id, epoch });
    let mut scene = Scene::begin(deployment, &setup(0), &[store]).await;
    for epoch in [1, 2] {
        sleep(CALM).await;
        let mut former = scene.envoys[0].replace(&setup(epoch)).await;
        former.ends().await;
    }
    sleep(CALM).await;
    let cost = scene.end_as_promised().await;
    HotRestart { id, epoch: 0 }.leaves_nothing();
    cost
}
