//! Every route there is, who may use it, and a body that it takes.

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Anybody.
    Nothing,
    /// Whoever bears a key.
    Key,
    /// Whoever has a part in all sites.
    ViewerOfAll,
    /// An admin of all sites.
    AdminOfAll,
    /// Whoever has a part in the site.
    Viewer,
    /// An admin of the site.
    Admin,
}

/// Method, path, who may use it, and a body with which it succeeds.
pub(crate) type Route = (&'static str, &'static str, Needs, &'static str);

const EVENT: &str = r#"{"n": "pageview", "u": "https://example.com/"}"#;
const TRIGGER: &str = r#"{"type": "visitor_spike", "threshold": 77}"#;

/// The one list of them. A test holds it against the router.
pub(crate) const ROUTES: [Route; 33] = [
    ("GET", "/healthz", Needs::Nothing, ""),
    ("GET", "/readyz", Needs::Nothing, ""),
    ("GET", "/metrics", Needs::ViewerOfAll, ""),
    ("GET", "/api/openapi.json", Needs::Nothing, ""),
    ("GET", "/api/schemas", Needs::Nothing, ""),
    ("GET", "/api/schemas/v1/{event_type}", Needs::Nothing, ""),
    ("POST", "/api/event", Needs::Nothing, EVENT),
    ("OPTIONS", "/api/event", Needs::Nothing, ""),
    ("GET", "/api/sites", Needs::Key, ""),
    ("POST", "/api/sites", Needs::AdminOfAll, r#"{"domain": "new.example"}"#),
    ("GET", "/api/sites/{site_id}", Needs::Viewer, ""),
    ("PATCH", "/api/sites/{site_id}", Needs::Admin, r#"{"name": "Renamed"}"#),
    ("DELETE", "/api/sites/{site_id}", Needs::Admin, ""),
    ("GET", "/api/sites/{site_id}/visitors", Needs::Viewer, ""),
    ("GET", "/api/sites/{site_id}/goals", Needs::Viewer, ""),
    ("POST", "/api/sites/{site_id}/goals", Needs::Admin, r#"{"page_path": "/thanks"}"#),
    ("DELETE", "/api/sites/{site_id}/goals/{goal_id}", Needs::Admin, ""),
    ("GET", "/api/sites/{site_id}/webhooks", Needs::Viewer, ""),
    ("POST", "/api/sites/{site_id}/webhooks", Needs::Admin, r#"{"url": "https://nowhere.example/"}"#),
    ("POST", "/api/sites/{site_id}/triggers/trial", Needs::Admin, r#"{"trigger": "visitor_drop"}"#),
    ("POST", "/api/sites/{site_id}/webhooks/preview", Needs::Admin, r#"{"template": {"preset": "slack"}}"#),
    ("GET", "/api/sites/{site_id}/webhooks/{webhook_id}", Needs::Viewer, ""),
    ("PUT", "/api/sites/{site_id}/webhooks/{webhook_id}", Needs::Admin, r#"{"enabled": false}"#),
    ("PATCH", "/api/sites/{site_id}/webhooks/{webhook_id}", Needs::Admin, r#"{"name": "Renamed"}"#),
    ("DELETE", "/api/sites/{site_id}/webhooks/{webhook_id}", Needs::Admin, ""),
    ("POST", "/api/sites/{site_id}/webhooks/{webhook_id}/triggers", Needs::Admin, TRIGGER),
    ("DELETE", "/api/sites/{site_id}/webhooks/{webhook_id}/triggers/{trigger_id}", Needs::Admin, ""),
    ("GET", "/api/sites/{site_id}/webhooks/{webhook_id}/deliveries", Needs::Viewer, ""),
    ("GET", "/api/sites/{site_id}/webhooks/{webhook_id}/deliveries/{delivery_id}", Needs::Viewer, ""),
    ("POST", "/api/sites/{site_id}/webhooks/{webhook_id}/deliveries/{delivery_id}/resend", Needs::Admin, ""),
    ("POST", "/api/sites/{site_id}/webhooks/{webhook_id}/replay", Needs::Admin, r#"{"status": "failed"}"#),
    ("POST", "/api/sites/{site_id}/webhooks/{webhook_id}/secret", Needs::Admin, r#"{"grace_seconds": 60}"#),
    ("POST", "/api/sites/{site_id}/webhooks/{webhook_id}/test", Needs::Admin, ""),
];

/// A route's path with values in the place of its parameters.
pub(crate) fn fill(path: &str, parameters: &[(&str, &str)]) -> String {
    let filled = |path: String, (name, value): &(&str, &str)| path.replace(&format!("{{{name}}}"), value);
    parameters.iter().fold(path.to_owned(), filled)
}
