//! Redrive's own interface.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::World;
use serde_json::json;

#[tokio::test]
async fn a_batch_is_made_and_looked_at() {
    let world = World::open().await;
    world.fail("b", "timeout");
    let batch = world.batch(&["a", "b"]).await;
    let view = world.get(&format!("/v1/batches/{batch}")).await.is(200);
    assert_eq!(view["status"], "completed_with_failures");
    let missing = "/v1/batches/01890a5d-ac96-774b-bcce-b302099a8057";
    let error = world.get(missing).await.is(404);
    assert_eq!(error["error"]["type"], "NotFoundError");
    let error = world.post("/v1/batches", json!({ "bucket": "b" })).await;
    assert_eq!(
        error.is(422)["detail"][0]["loc"],
        json!(["body", "pipeline"])
    );
}
