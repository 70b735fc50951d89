//! `/openapi.json` and the page.

use profile_service::DESCRIPTORS;
use shared::{on_both_engines, testing::http::send};

use crate::app::App;

on_both_engines! {
    async fn every_route_is_described(app: App) {
        shared::testing::assert_described(app.address, DESCRIPTORS, "profile.v1").await;
    }

    async fn the_page_signs_in_at_the_auth_service(app: App) {
        let page = send(app.address, "GET /", &[], b"").await;
        assert!(page.text().contains(r#"<meta name="auth-url" content="http://auth.example.com">"#), "{}", page.text());
        assert!(page.header("content-security-policy").contains("connect-src 'self' http://auth.example.com;"));
    }
}
