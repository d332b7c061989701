//! The form of a webhook, to add one and to change one.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bellwether_domain::id::{SiteId, WebhookId};
use bellwether_domain::trigger::Rule;
use bellwether_domain::webhook::WebhookChange;
use bellwether_engine::{DEFAULT_TRIAL_DAYS, LookError, ManageError, NewWebhook};
use bellwether_store::SignedIn;
use serde_json::Value;
use tracing::error;

use super::shown_with_secret;
use crate::App;
use crate::access::{Access, Person};
use crate::pages::batch_form;
use crate::pages::charts::Trial;
use crate::pages::form::{Form, again};
use crate::pages::sites::shell_of;
use crate::pages::template_form;
use crate::pages::trigger_form::{self, Row};
use crate::pages::{Page, Shell, go_to, words};
use crate::problem::Problem;

const FIELDS: [&str; 2] = ["url", "name"];
const FIRST_TRIGGER: &str = "goal_completion";

#[derive(Template)]
#[template(path = "webhook_form.html")]
struct Edit {
    shell: Shell,
    site_id: SiteId,
    domain: String,
    /// The webhook that is changed; none for a new one.
    webhook_id: Option<WebhookId>,
    has_goals: bool,
    triggers: Vec<Shown>,
    types: Vec<(&'static str, &'static str)>,
    template: template_form::Part,
    is_batched: bool,
    form: Form,
}

/// A trigger, and what it would have done.
struct Shown {
    row: Row,
    chart: Option<Trial>,
    suggestion: Option<String>,
    /// What is shown instead, where that is not known.
    note: Option<&'static str>,
}

/// An empty form.
pub(crate) async fn new(State(app): State<App>, Person(who): Person, access: Access) -> Result<Response, Problem> {
    only_for_admins(&access)?;
    let mut form = Form::default();
    trigger_form::add(&mut form, FIRST_TRIGGER);
    Ok(page(&app, &who, &access, None, form).await?.into_response())
}

/// A form with what a webhook has.
pub(crate) async fn show(State(app): State<App>, Person(who): Person, access: Access) -> Result<Response, Problem> {
    only_for_admins(&access)?;
    let webhook = &access.webhook()?.webhook;
    let mut form = Form::of([("url", &webhook.url), ("name", &webhook.name)]);
    trigger_form::show(&mut form, &webhook.triggers);
    template_form::show(&mut form, webhook.template.as_deref());
    batch_form::show(&mut form, webhook.batch);
    Ok(page(&app, &who, &access, Some(webhook.id), form).await?.into_response())
}

/// Adds a webhook, and goes on to it and its secret; or changes the form.
pub(crate) async fn create(State(app): State<App>, Person(who): Person, access: Access, form: Form) -> Result<Response, Problem> {
    let form = match pressed(form) {
        Pressed::Another(form) => return Ok(page(&app, &who, &access, None, form).await?.into_response()),
        Pressed::Save(form) => form,
    };
    let created = match WebhookChange::read_new(&webhook_of(&form), app.engine.policy()) {
        Ok(change) => app.engine.create_webhook(access.site.site.id, change).await,
        Err(invalid) => Err(ManageError::Invalid(invalid)),
    };
    match created {
        Ok(NewWebhook { webhook, secret }) => Ok(shown_with_secret(&app, &who, webhook.site_id, webhook.id, &secret)),
        Err(error) => Ok(again(page(&app, &who, &access, None, refused(form, error)?).await?)),
    }
}

/// Changes a webhook; or the form.
pub(crate) async fn update(State(app): State<App>, Person(who): Person, access: Access, form: Form) -> Result<Response, Problem> {
    let id = access.webhook()?.webhook.id;
    let form = match pressed(form) {
        Pressed::Another(form) => return Ok(page(&app, &who, &access, Some(id), form).await?.into_response()),
        Pressed::Save(form) => form,
    };
    let updated = match WebhookChange::read_whole(&webhook_of(&form), app.engine.policy()) {
        Ok(change) => app.engine.update_webhook(access.site.site.id, id, change).await,
        Err(invalid) => Err(ManageError::Invalid(invalid)),
    };
    match updated {
        Ok(_) => Ok(go_to(&format!("/sites/{}/webhooks/{id}", access.site.site.id))),
        Err(error) => Ok(again(page(&app, &who, &access, Some(id), refused(form, error)?).await?)),
    }
}

fn only_for_admins(access: &Access) -> Result<(), Problem> {
    if access.may_change { Ok(()) } else { Err(Problem::Forbidden) }
}

/// What the button that was pressed is for.
enum Pressed {
    Save(Form),
    /// The form changes, or is looked at anew, and nothing is saved.
    Another(Form),
}

fn pressed(mut form: Form) -> Pressed {
    if let Ok(number) = form.value("remove").parse() {
        trigger_form::remove(&mut form, number);
    } else if form.has("add") {
        let kind = form.value("add").to_owned();
        trigger_form::add(&mut form, &kind);
    } else if !form.has("preview") {
        return Pressed::Save(form);
    }
    template_form::begin(&mut form);
    Pressed::Another(form)
}

/// The webhook of a form as the REST API takes it.
fn webhook_of(form: &Form) -> Value {
    let mut webhook = form.to_json(&FIELDS);
    webhook["triggers"] = trigger_form::to_json(form);
    webhook["template"] = template_form::to_json(form);
    webhook["batch"] = batch_form::to_json(form);
    webhook
}

fn refused(form: Form, error: ManageError) -> Result<Form, Problem> {
    let names = [trigger_form::names(&form), template_form::names(&form)].concat();
    let fixed = FIELDS.into_iter().chain(template_form::FIELDS).chain(batch_form::FIELDS);
    let names: Vec<_> = fixed.chain(names.iter().map(String::as_str)).collect();
    match error {
        ManageError::Invalid(invalid) => {
            let beside = batch_form::beside_fields(&template_form::beside_fields(&trigger_form::beside_fields(invalid)));
            Ok(form.with(&beside, &names))
        }
        error => form.refused(error, &names),
    }
}

async fn page(
    app: &App,
    who: &SignedIn,
    access: &Access,
    webhook_id: Option<WebhookId>,
    form: Form,
) -> Result<Page<Edit>, Problem> {
    let site = &access.site;
    let rows = trigger_form::rows(&form, &site.goals);
    let rules = trigger_form::rules(&form);
    let trials = trials(app, access, &rules).await?;
    let suggestion = |chart: &Trial| chart.suggested.as_ref().and_then(words::suggestion);
    let note = note(app, access, &rules).await;
    let triggers = rows.into_iter().zip(&rules).zip(trials).map(|((row, rule), chart)| {
        let suggestion = chart.as_ref().and_then(suggestion);
        let note = note.filter(|_| matches!(rule, Some(Rule::NewSource(_))));
        Shown { row, chart, suggestion, note }
    });
    let before = webhook_id.and_then(|id| site.webhook(id)).and_then(|webhook| webhook.webhook.template.as_deref());
    let template = template_form::part(app, access, &form, before).await?;
    Ok(Page(Edit {
        shell: shell_of(who, access, "/webhooks"),
        site_id: site.site.id,
        domain: site.site.domain.to_string(),
        webhook_id,
        has_goals: !site.goals.is_empty(),
        triggers: triggers.collect(),
        types: trigger_form::TYPES.iter().map(|kind| (kind.name(), words::event_type(*kind))).collect(),
        template,
        is_batched: batch_form::is_chosen(&form),
        form,
    }))
}

/// What is shown of triggers on new sources, if there are some.
async fn note(app: &App, access: &Access, rules: &[Option<Rule>]) -> Option<&'static str> {
    if !rules.iter().flatten().any(|rule| matches!(rule, Rule::NewSource(_))) {
        return None;
    }
    let known = app.engine.knows_sources(&access.site).await;
    known.map(words::untried).inspect_err(|error| error!(%error, "it cannot be shown whether a source may be new")).ok()
}

/// What each of the triggers would have made of the last days.
async fn trials(app: &App, access: &Access, rules: &[Option<Rule>]) -> Result<Vec<Option<Trial>>, Problem> {
    let tried = rules.iter().flatten().filter(|rule| trigger_form::is_tried(rule)).cloned().collect();
    let tried = match app.engine.try_triggers(&access.site, tried, DEFAULT_TRIAL_DAYS).await {
        Ok(tried) => tried,
        Err(LookError::Store(error)) => return Err(error.into()),
        Err(LookError::Count(error)) => {
            error!(%error, "what triggers would have made of the last days cannot be shown");
            Vec::new()
        }
    };
    let mut tried = tried.into_iter();
    let mut trial = |rule: &Rule| {
        let tried = trigger_form::is_tried(rule).then(|| tried.next().flatten()).flatten();
        tried.map(|tried| Trial::of(rule, tried, DEFAULT_TRIAL_DAYS))
    };
    Ok(rules.iter().map(|rule| rule.as_ref().and_then(&mut trial)).collect())
}
