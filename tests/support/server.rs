//! A server on loopback in its own thread, until it is dropped.

use tokio::sync::oneshot;

pub struct Server {
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    end: Option<oneshot::Sender<()>>,
}

impl Server {
    pub fn start(app: axum::Router) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (end, ended) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    _ = axum::serve(listener, app) => {}
                    _ = ended => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, end: Some(end) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.take().map(|end| end.send(()));
    }
}
