//! The state that all requests share.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::cache::Cache;
use super::fields::{FORM_KEY, Fields};
use super::location::Scope;

/// The state that all requests share.
pub struct Console {
    /// Access control.
    pub access: Arc<Access>,
    /// The cluster and the namespaces that are shown.
    pub scope: Scope,
    /// The objects.
    pub cache: Cache,
    /// The client, with the permissions of the person who started the console.
    pub client: Client,
    /// Ends the streams of pages that are open.
    pub shutdown: CancellationToken,
}

/// The fields of a form that a page of the console has sent. Handlers get the fields of a form only through this
/// extractor, which checks the key.
pub struct OwnForm(pub Fields);

impl FromRequest<Arc<Console>> for OwnForm {
    type Rejection = (StatusCode, String);

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, Self::Rejection> {
        let body = Bytes::from_request(request, console).await;
        let body = body.map_err(|error| (error.status(), format!("{error}\n")))?;
        let fields = Fields::parse(&body);
        if console.access.is_form_key(fields.get(FORM_KEY)) {
            Ok(OwnForm(fields))
        } else {
            let refusal = "This form does not come from this console. Load its page again, and repeat the change.\n";
            Err((StatusCode::FORBIDDEN, refusal.to_owned()))
        }
    }
}
