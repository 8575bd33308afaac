//! The addresses of the console, and the handlers of requests to them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{ACCEPT, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;

use super::edit::{Errors, FormAction, Subject};
use super::fields::Fields;
use super::location::{DataCenterRef, Filter, Tab};
use super::model::Model;
use super::preview::{Preview, preview};
use super::router::Route;
use super::state::{Console, OwnForm};
use super::{access, assets, live, views};

/// All addresses of the console.
pub fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(data_centers))
        .route("/new/data-center", get(new_data_center).post(submit_data_center))
        .route("/dc/{namespace}/{name}/{tab}", get(data_center))
        .route("/dc/{namespace}/{name}/{tab}/{member}", get(member))
        .route("/dc/{namespace}/{name}/new/{what}", get(form_new).post(submit_new))
        .route("/dc/{namespace}/{name}/edit/{what}", get(form_edit).post(submit_edit))
        .route("/dc/{namespace}/{name}/delete/{what}", get(form_delete).post(submit_delete))
        .route(assets::STYLE, get(async || assets::style()))
        .route(assets::SCRIPT, get(async || assets::script()))
        .fallback(async || not_found())
        .layer(middleware::from_fn_with_state(console.access.clone(), access::guard))
        .with_state(console)
}

type Shared = State<Arc<Console>>;

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "There is no such page.\n").into_response()
}

fn query(RawQuery(query): RawQuery) -> Fields {
    Fields::parse(query.unwrap_or_default().as_bytes())
}

async fn data_centers(State(console): Shared, query_text: RawQuery, headers: HeaderMap) -> Response {
    let query = query(query_text);
    show(console, Route::DataCenters(Filter::parse(&query)), &query, &headers).await
}

async fn data_center(
    State(console): Shared,
    Path((namespace, name, tab)): Path<(String, String, String)>,
    query_text: RawQuery,
    headers: HeaderMap,
) -> Response {
    let Some(tab) = Tab::ALL.into_iter().find(|its| its.path() == tab) else { return not_found() };
    let query = query(query_text);
    show(console, Route::DataCenter(DataCenterRef { namespace, name }, tab, Filter::parse(&query)), &query, &headers)
        .await
}

async fn member(
    State(console): Shared,
    Path((namespace, name, tab, member)): Path<(String, String, String, String)>,
    query_text: RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query(query_text);
    let dc = DataCenterRef { namespace, name };
    let route = match tab.as_str() {
        "bonds" => Route::Bond(dc, member, Filter::parse(&query)),
        "hosts" => Route::Host(dc, member),
        _ => return not_found(),
    };
    show(console, route, &query, &headers).await
}

/// Answers with a page, or with the stream of its changes if the request asks for events.
async fn show(console: Arc<Console>, route: Route, query: &Fields, headers: &HeaderMap) -> Response {
    if headers.get(ACCEPT).is_some_and(|accept| accept == "text/event-stream") {
        let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).unwrap_or_else(|| query.get("seen"));
        let seen = seen.to_owned();
        return live::follow(console, route, seen);
    }
    let page = route.page(&console.cache.model().await);
    let status = if page.found { StatusCode::OK } else { StatusCode::NOT_FOUND };
    (status, Html(views::document(&console.scope, &page).into_string())).into_response()
}

/// The path of a form: namespace and name of the data center, and the kind of the subject.
type FormPath = Path<(String, String, String)>;

async fn new_data_center(State(console): Shared) -> Response {
    form(&console, FormAction::New, &Subject::DataCenter(None)).await
}

async fn submit_data_center(State(console): Shared, OwnForm(fields): OwnForm) -> Response {
    submit(&console, FormAction::New, &Subject::DataCenter(None), &fields).await
}

async fn form_new(State(console): Shared, path: FormPath, query: RawQuery) -> Response {
    form_of(&console, FormAction::New, path, query).await
}

async fn form_edit(State(console): Shared, path: FormPath, query: RawQuery) -> Response {
    form_of(&console, FormAction::Edit, path, query).await
}

async fn form_delete(State(console): Shared, path: FormPath, query: RawQuery) -> Response {
    form_of(&console, FormAction::Delete, path, query).await
}

async fn submit_new(console: Shared, path: FormPath, query: RawQuery, form: OwnForm) -> Response {
    submit_of(&console, FormAction::New, path, query, form).await
}

async fn submit_edit(console: Shared, path: FormPath, query: RawQuery, form: OwnForm) -> Response {
    submit_of(&console, FormAction::Edit, path, query, form).await
}

async fn submit_delete(console: Shared, path: FormPath, query: RawQuery, form: OwnForm) -> Response {
    submit_of(&console, FormAction::Delete, path, query, form).await
}

fn subject(Path((namespace, name, what)): FormPath, query_text: RawQuery) -> Option<Subject> {
    Subject::parse(DataCenterRef { namespace, name }, &what, &query(query_text))
}

async fn form_of(console: &Console, action: FormAction, path: FormPath, query: RawQuery) -> Response {
    match subject(path, query) {
        Some(subject) => form(console, action, &subject).await,
        None => not_found(),
    }
}

async fn submit_of(
    console: &Console,
    action: FormAction,
    path: FormPath,
    query: RawQuery,
    OwnForm(fields): OwnForm,
) -> Response {
    match subject(path, query) {
        Some(subject) => submit(console, action, &subject, &fields).await,
        None => not_found(),
    }
}

/// Answers with the form and its initial values.
async fn form(console: &Console, action: FormAction, subject: &Subject) -> Response {
    let model = console.cache.model().await;
    match subject.values(&model) {
        Some(values) => answer(console, &model, action, subject, &values, &Errors::default()),
        None => not_found(),
    }
}

/// Answers a filled form: with the preview if the script of the page asks for it, else by making the change.
async fn submit(console: &Console, action: FormAction, subject: &Subject, fields: &Fields) -> Response {
    let model = console.cache.model().await;
    if fields.has("preview", "yes") {
        return Html(outlook(&model, action, subject, fields).into_string()).into_response();
    }
    let done = match subject.change(action, fields, &model) {
        Ok(change) => change.send(&console.client).await,
        Err(errors) => Err(errors),
    };
    match done {
        Ok(()) => (StatusCode::SEE_OTHER, [(LOCATION, subject.afterwards(fields, action))]).into_response(),
        Err(errors) => {
            let page = answer(console, &model, action, subject, fields, &errors);
            (StatusCode::UNPROCESSABLE_ENTITY, page).into_response()
        }
    }
}

fn answer(
    console: &Console,
    model: &Model,
    action: FormAction,
    subject: &Subject,
    values: &Fields,
    errors: &Errors,
) -> Response {
    let form = views::Form {
        action,
        subject,
        inputs: &subject.inputs(model),
        values,
        errors,
        consequences: if action == FormAction::Delete { subject.consequences(model) } else { Vec::new() },
        key: console.access.form_key(),
    };
    let outlook = outlook(model, action, subject, values);
    Html(views::form(&console.scope, &form, &outlook).into_string()).into_response()
}

/// The preview of the changes on the hosts.
fn outlook(model: &Model, action: FormAction, subject: &Subject, fields: &Fields) -> maud::Markup {
    match (subject.change(action, fields, model), subject.dc()) {
        (Ok(change), Some(dc)) => {
            let manifest = if action == FormAction::Delete { None } else { change.manifest().ok() };
            views::preview(&preview(model.objects(), dc, &change), manifest.as_deref())
        }
        // A new data center has no hosts yet.
        (Ok(change), None) => views::preview(&Preview::default(), change.manifest().ok().as_deref()),
        (Err(_), _) => views::no_preview(),
    }
}
