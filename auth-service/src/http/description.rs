//! The OAuth and simplejwt endpoints in the `OpenAPI` document. They are routes of their own, so no proto describes them.

use serde_json::{Map, Value, json};

/// A field of a body: its name, its description, and whether it is always there.
type Field = (&'static str, &'static str, bool);

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// The fields that authenticate a client in the body. `Authorization: Basic` replaces them.
const CLIENT: [Field; 4] = [
    ("client_id", "The client. Sessions belong to the public client `first-party`, which has no secret.", false),
    ("client_secret", "The secret of a service account.", false),
    ("client_assertion", "A signed assertion of a service account (RFC 7523).", false),
    ("client_assertion_type", "`urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.", false),
];

/// Returns the path items.
pub(crate) fn paths() -> Map<String, Value> {
    let token = [
        &[
            ("grant_type", "`refresh_token` or `client_credentials`, or `password` if the operator enabled it.", true),
            ("refresh_token", "The refresh token, for the grant `refresh_token`.", false),
            ("username", "The username or the e-mail address, for the grant `password`.", false),
            ("password", "The password, for the grant `password`.", false),
        ][..],
        &CLIENT[..],
    ]
    .concat();
    let tokens = [
        ("access_token", "The access token (RFC 9068).", true),
        ("token_type", "`Bearer`.", true),
        ("refresh_token", "The next refresh token, if the token belongs to a session.", false),
        ("scope", "The permissions, separated by spaces.", true),
    ];
    let introspect = [&[("token", "The token to look at.", true)][..], &CLIENT[..]].concat();
    let pair = [("access", "The access token.", true), ("refresh", "The refresh token.", true)];
    let mut tokens = object(&tokens);
    tokens["properties"]["expires_in"] =
        json!({ "type": "integer", "description": "The lifetime of the access token in seconds." });
    tokens["properties"]["refresh_expires_in"] =
        json!({ "type": "integer", "description": "The lifetime of the refresh token in seconds." });
    let active = json!({
        "type": "object",
        "properties": { "active": { "type": "boolean", "description": "Whether the token is valid. Other members are absent if not." } },
        "required": ["active"],
    });
    let empty = json!({ "type": "object" });
    let oauth_error =
        object(&[("error", "The error code of RFC 6749.", true), ("error_description", "A sentence for people.", false)]);
    let django_error = json!({ "type": "object", "description": "`detail` and `code`, or a list of problems for each field." });
    let oauth = |name, summary, fields: &[Field], success: Value| Endpoint {
        name,
        tag: "OAuth",
        summary,
        media_type: FORM,
        body: object(fields),
        success: Some(success),
        error: oauth_error.clone(),
    };
    let django = |name, summary, fields: &[Field], success: &Value| Endpoint {
        name,
        tag: "simplejwt",
        summary,
        media_type: JSON,
        body: object(fields),
        success: Some(success.clone()),
        error: django_error.clone(),
    };
    let revoke = Endpoint {
        success: None,
        ..oauth("OAuth_Revoke", "Ends the session of a token (RFC 7009).", &introspect[..1], json!({}))
    };
    let credentials = [("username", "The username or the e-mail address.", true), ("password", "The password.", true)];
    let refresh = [("refresh", "The refresh token.", true)];
    let endpoints = [
        ("/oauth2/token", oauth("OAuth_Token", "Issues tokens (RFC 6749).", &token, tokens)),
        ("/oauth2/introspect", oauth("OAuth_Introspect", "Describes a token (RFC 7662).", &introspect, active)),
        ("/oauth2/revoke", revoke),
        ("/api/token/", django("Simplejwt_Obtain", "Signs in.", &credentials, &object(&pair))),
        ("/api/token/refresh/", django("Simplejwt_Refresh", "Exchanges a refresh token.", &refresh, &object(&pair))),
        ("/api/token/verify/", django("Simplejwt_Verify", "Verifies a token.", &[("token", "The token.", true)], &empty)),
        ("/api/token/blacklist/", django("Simplejwt_Blacklist", "Ends the session of a refresh token.", &refresh, &empty)),
    ];
    let mut paths: Map<_, _> =
        endpoints.map(|(path, endpoint)| (path.to_owned(), json!({ "post": endpoint.operation() }))).into_iter().collect();
    for (path, name) in [("oauth-authorization-server", "OAuth_Metadata"), ("openid-configuration", "OAuth_OpenidConfiguration")]
    {
        let success = json!({ "description": "The metadata.", "content": { JSON: { "schema": { "type": "object" } } } });
        let operation = json!({
            "operationId": name,
            "tags": ["OAuth"],
            "summary": "Returns the metadata of this authorization server (RFC 8414).",
            "description": "The addresses begin with the issuer.",
            "security": [],
            "responses": { "200": success },
        });
        paths.insert(format!("/.well-known/{path}"), json!({ "get": operation }));
    }
    paths
}

struct Endpoint {
    /// The operation id.
    name: &'static str,
    tag: &'static str,
    summary: &'static str,
    media_type: &'static str,
    /// The schema of the request body.
    body: Value,
    /// The schema of a successful response, or `None` if it has no body.
    success: Option<Value>,
    error: Value,
}

impl Endpoint {
    fn operation(self) -> Value {
        let mut success = json!({ "description": "The call succeeded." });
        if let Some(schema) = self.success {
            success["content"] = json!({ JSON: { "schema": schema } });
        }
        let error = |description| json!({ "description": description, "content": { JSON: { "schema": self.error } } });
        json!({
            "operationId": self.name,
            "tags": [self.tag],
            "summary": self.summary,
            "description": "An endpoint for standard clients. It calls the same methods as the API of this service.",
            "security": [],
            "requestBody": { "required": true, "content": { self.media_type: { "schema": self.body } } },
            "responses": {
                "200": success,
                "400": error("The request is invalid."),
                "401": error("The credential is invalid."),
                "default": error("The call failed."),
            },
        })
    }
}

/// Returns the schema of an object with these fields, which are strings.
fn object(fields: &[Field]) -> Value {
    let properties =
        fields.iter().map(|(name, description, _)| ((*name).to_owned(), json!({ "type": "string", "description": description })));
    let required: Vec<_> = fields.iter().filter(|(_, _, is_required)| *is_required).map(|(name, _, _)| *name).collect();
    json!({ "type": "object", "properties": properties.collect::<Map<_, _>>(), "required": required })
}
