//! Clients of Kubernetes clusters, for rollouts, Jobs, control and leadership.
//!
//! Every client passes its requests through a layer that turns a failed connection into a
//! [`NetworkError`], so that errors of `kube` name the API server and the cause.

use std::error::Error;
use std::time::Duration;

use kube::Client;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;
use tower::BoxError;
use tower::util::{MapErrLayer, MapResponseLayer};

use crate::config::services::KubernetesConfig;
use crate::core::model::untrusted::clean_line;
use crate::error::{causes, chain};
use crate::network::{NetworkError, calls};
use crate::redact;

/// The name of the API servers in the count of calls.
const SERVICE: &str = "kubernetes";

/// Makes a client for a context; without one, for the kubeconfig's current context or the pod's own
/// account.
///
/// # Errors
/// A line for the operator: the context is not allowed, or the kubeconfig can't be used.
pub async fn client(config: &KubernetesConfig, context: Option<&str>) -> Result<Client, String> {
    if let Some(context) = context
        && !config.contexts.contains(context)
    {
        return Err(format!("the context {context} is not in kubernetes.contexts"));
    }
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
    let line = |error: &(dyn Error + 'static)| clean_line(&format!("kubernetes: {}", chain(error)));
    let mut settings = match &config.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|e| line(&e))?;
            kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|e| line(&e))?
        }
        None if context.is_some() => {
            kube::Config::from_kubeconfig(&options).await.map_err(|e| line(&e))?
        }
        None => kube::Config::infer().await.map_err(|e| line(&e))?,
    };
    remember_secrets(&settings.auth_info);
    settings.connect_timeout = Some(Duration::from_secs(10));
    let address = settings.cluster_url.to_string();
    let name_address = move |error: BoxError| -> BoxError {
        calls::record(SERVICE, None);
        NetworkError::new(&address, error).into()
    };
    let builder = ClientBuilder::try_from(settings).map_err(|e| line(&e))?;
    let count = MapResponseLayer::new(counted);
    Ok(builder.with_layer(&count).with_layer(&MapErrLayer::new(name_address)).build())
}

/// Counts an answer of the API server.
fn counted<B>(answer: http::Response<B>) -> http::Response<B> {
    calls::record(SERVICE, Some(answer.status().as_u16()));
    answer
}

/// Has the credentials of a context redacted from now on.
fn remember_secrets(login: &kube::config::AuthInfo) {
    let secrets = [&login.token, &login.password, &login.client_key_data];
    for secret in secrets.into_iter().flatten() {
        redact::remember_token(secret.expose_secret());
    }
    let files = [&login.token_file, &login.client_key];
    for file in files.into_iter().flatten() {
        if let Ok(text) = std::fs::read_to_string(file) {
            redact::remember_token(&text);
        }
    }
}

/// Why a call to a cluster failed, in one line: the API server's own message, or the address and
/// the cause, without the layers of `kube` around them.
#[must_use]
pub fn reason(error: &(dyn Error + 'static)) -> String {
    for cause in causes(error) {
        if let Some(network) = cause.downcast_ref::<NetworkError>() {
            return chain(network);
        }
        if let Some(kube::Error::Api(status)) = cause.downcast_ref() {
            return clean_line(&format!(
                "the API server answered {}: {}",
                status.code, status.message
            ));
        }
    }
    chain(error)
}

/// Whether the API server answered a call, and refused it for its login or its rights.
#[must_use]
pub fn is_denied(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        matches!(cause.downcast_ref(), Some(kube::Error::Api(status)) if matches!(status.code, 401 | 403))
    })
}

/// A client that is made at the first call and kept, for callers that poll. It reads a rotated token
/// by itself.
#[derive(Default)]
pub struct CachedClient(OnceCell<Client>);

impl std::fmt::Debug for CachedClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedClient").field("made", &self.0.initialized()).finish()
    }
}

impl CachedClient {
    /// Gives the client; after a failure the next call tries again.
    ///
    /// # Errors
    /// As [`client`].
    pub async fn get(
        &self,
        config: &KubernetesConfig,
        context: Option<&str>,
    ) -> Result<Client, String> {
        self.0.get_or_try_init(|| client(config, context)).await.cloned()
    }
}
