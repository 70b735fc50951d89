//! `/openapi.json`, `/openapi.yaml`, and the page.

use auth_service::{DESCRIPTORS, Settings};
use server::{ServerSettings, config::HttpArgs};
use testing::{Engine, http::send, on_both_engines};

use crate::app::App;

on_both_engines! {
    async fn every_route_is_described(app: App) {
        testing::assert_described(app.server.address, DESCRIPTORS, "auth.v1").await;
    }

    async fn the_page_loads_nothing_from_elsewhere_and_is_framed_by_nobody(app: App) {
        let page = send(app.server.address, "GET /", &[], b"").await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        let policy = page.header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        let links: Vec<_> = page.text().split(['"', '\'']).filter(|text| text.starts_with('/')).collect();
        assert!(links.len() > 3, "{links:?}");
        for link in links {
            let plain = send(app.server.address, &format!("GET {link}"), &[], b"").await;
            let packed = send(app.server.address, &format!("GET {link}"), &[("accept-encoding", "gzip")], b"").await;
            assert_eq!((plain.status, packed.status), (200, 200), "{link}");
            assert_eq!(plain.header("content-encoding"), "", "{link}");
            if plain.body.len() > 1024 {
                assert_eq!(packed.header("content-encoding"), "gzip", "{link}");
                assert!(plain.body.len() > packed.body.len(), "{link}");
            }
        }
    }
}

#[tokio::test]
async fn the_page_can_be_switched_off() {
    let app = App::start_with(
        Engine::Sqlite,
        Settings {
            server: ServerSettings { http: HttpArgs { no_page: true, ..HttpArgs::default() }, ..ServerSettings::default() },
            ..Settings::default()
        },
    )
    .await;
    assert_eq!(send(app.server.address, "GET /", &[], b"").await.status, 404);
    assert_eq!(send(app.server.address, "GET /explorer/explorer.js", &[], b"").await.status, 404);
    assert_eq!(send(app.server.address, "GET /openapi.json", &[], b"").await.status, 200);
}
