//! What honeyweave serves over HTTP: its metrics at `/metrics`, as Prometheus
//! reads them.

use std::future::Future;
use std::pin::Pin;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::control::console::MetricsText;

/// Serves `/metrics` on `listener` for ever.
pub fn serve(listener: TcpListener, metrics: MetricsText) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let text = move || {
        let metrics = metrics.clone();
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics().await) }
    };
    let hint = || async { "honeyweave: the metrics are at /metrics\n" };
    let router = Router::new().route("/metrics", get(text)).route("/", get(hint));
    Box::pin(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the metrics endpoint ended");
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn serves_metrics_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let text: MetricsText = Arc::new(|| Box::pin(async { "up 1\n".to_owned() }));
        tokio::spawn(serve(listener, text));
        let answer = get(address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("content-type: text/plain; version=0.0.4") && answer.ends_with("\r\n\r\nup 1\n"));
        assert!(get(address, "/").await.contains("/metrics"));
        assert!(get(address, "/../etc/passwd").await.starts_with("HTTP/1.1 404"));
    }
}
