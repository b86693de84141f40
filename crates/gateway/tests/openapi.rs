//! What is said of the interface, and the page that shows it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::World;

#[tokio::test]
async fn the_document_and_a_page_that_shows_it_are_served() {
    let world = World::open().await;
    let document = world.get("/openapi.json").await;
    assert_eq!(document.is(200), redrive_gateway::document());
    assert_eq!(document.headers["content-type"], "application/json");
    for (path, media_type) in [
        ("/docs", "text/html"),
        ("/docs/page.js", "text/javascript"),
        ("/docs/page.css", "text/css"),
    ] {
        let file = world.get(path).await;
        assert_eq!(file.status, 200, "{path}");
        assert!(
            file.headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with(media_type)
        );
        let policy = file.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
    }
}
