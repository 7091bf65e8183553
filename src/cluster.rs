//! How a cluster is reached: what rollouts, Jobs, control and leadership share.

use std::time::Duration;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::OnceCell;

use crate::config::services::KubernetesConfig;
use crate::core::model::untrusted::clean_line;

/// A client for a context.
///
/// # Errors
/// A line for a person.
pub async fn client(config: &KubernetesConfig, context: Option<&str>) -> Result<Client, String> {
    if let Some(context) = context
        && !config.contexts.contains(context)
    {
        return Err(format!("the context {context} is not in kubernetes.contexts"));
    }
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
    let tell = |error: &dyn std::error::Error| clean_line(&format!("kubernetes: {error}"));
    let mut made = match &config.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|e| tell(&e))?;
            kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|e| tell(&e))?
        }
        None if context.is_some() => {
            kube::Config::from_kubeconfig(&options).await.map_err(|e| tell(&e))?
        }
        None => kube::Config::infer().await.map_err(|e| tell(&e))?,
    };
    made.connect_timeout = Some(Duration::from_secs(10));
    Client::try_from(made).map_err(|e| tell(&e))
}

/// A client that is made once, and kept: for who asks every few seconds. It reads its token anew
/// by itself.
#[derive(Default)]
pub struct Cached(OnceCell<Client>);

impl std::fmt::Debug for Cached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cached").field("made", &self.0.initialized()).finish()
    }
}

impl Cached {
    /// The client; one that could not be made is tried again the next time.
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
