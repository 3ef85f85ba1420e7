//! Pages that commands read from the gateway on this machine.

use std::time::Duration;

use anyhow::ensure;
use http::StatusCode;

/// Longest wait for a page.
pub(crate) const PAGE_MAX: Duration = Duration::from_secs(3);

/// The page at a URL, for the holder of a token.
pub(crate) async fn page(url: &str, token: Option<&str>) -> anyhow::Result<String> {
    let (status, page) = weir_loadtest::get(url, token, PAGE_MAX).await?;
    ensure!(status == StatusCode::OK, "it answers {status}: {page}");
    Ok(page)
}
