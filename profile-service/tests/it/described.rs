//! The service describes its routes in `/openapi.json`, and serves the API page.

use profile_service::DESCRIPTORS;
use testing::http::send;
use testing::on_both_engines;

use crate::app::App;

on_both_engines! {
    async fn every_route_is_described(app: App) {
        testing::assert_described(app.address, DESCRIPTORS, "profiles.v1").await;
    }

    async fn the_page_signs_in_at_the_auth_service(app: App) {
        let page = send(app.address, "GET /", &[], b"").await;
        assert!(page.text().contains(r#"<meta name="auth-url" content="http://auth.example.com">"#), "{}", page.text());
        assert!(page.header("content-security-policy").contains("connect-src 'self' http://auth.example.com;"));
    }
}
