//! Notifies a webhook that a budget has reached one of its thresholds.
//!
//! A thread of its own asks once a second which thresholds are pending
//! ([`weir_governance::thresholds`]) and posts them. What failed is pending again at the next look, so
//! nothing waits in a queue and no request waits for a post.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request, Uri};
use http_body_util::Full;
use serde_json::json;
use weir_eventlog::{StopSignal, StoppableThread};
use weir_governance::clock::Moment;
use weir_governance::thresholds::{PendingNotification, ThresholdCrossing, pending};
use weir_limits::OVERSPENT_PERCENT;

use crate::caps::{LAST_POST_MAX, WEBHOOK_PAUSE_MAX};
use crate::request::worker::GatewayState;
use crate::setup::config::WebhookConfig;
use crate::setup::directory::Egress;
use crate::setup::problem::ConfigProblem;
use crate::upstream::{CallError, Endpoint, Pool, Reach};

/// How often budgets are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The body of a post: as Slack's incoming webhooks take it, with the facts beside it for programs.
fn body(notification: &PendingNotification) -> String {
    let ThresholdCrossing {
        name,
        percent,
        spent,
        limit,
        resets,
        hard,
        ..
    } = &notification.crossing;
    let until = resets.as_ref().map_or_else(
        || "It does not reset.".to_owned(),
        |resets| format!("It resets at {resets}."),
    );
    let then = match (hard, percent) {
        (true, 100..) => " Requests are refused.",
        (true, _) => " When it is used up, requests are refused.",
        (false, _) => "",
    };
    let what = match (hard, percent) {
        (true, &OVERSPENT_PERCENT) => "is overspent".to_owned(),
        _ => format!("has reached {percent}%"),
    };
    let text = format!("Budget \"{name}\" {what}: {spent} of {limit}.{then} {until}");
    let mut facts = notification.crossing.facts();
    facts["id"] = notification.mark.budget.clone().into();
    json!({ "text": text, "budget": facts }).to_string()
}

/// Where the webhook is.
#[derive(Clone, Debug)]
struct WebhookTarget {
    endpoint: Endpoint,
    host: HeaderValue,
    path: Uri,
    timeout: Duration,
}

impl WebhookTarget {
    /// `None` if none is configured. The error names the setting, and never shows the URL: whoever
    /// knows it may post there.
    fn read(config: &WebhookConfig) -> Result<Option<Self>, ConfigProblem> {
        let problem = |setting: &str, message: String| ConfigProblem {
            path: format!("gateway.webhook.{setting}"),
            message,
        };
        let Some(url) = &config.url else {
            return Ok(None);
        };
        let reach = Reach::configured(config.proxy.as_deref(), config.allow_private)
            .map_err(|message| problem("proxy", message))?;
        let uri: Uri = url
            .expose()
            .parse()
            .map_err(|error| problem("url", format!("it is not a URL: {error}")))?;
        let (endpoint, host) = Endpoint::at(&uri, config.ca_file.as_deref(), reach)
            .map_err(|bad| problem(bad.setting("url"), bad.to_string()))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Some(Self {
            path: path
                .parse()
                .map_err(|error| problem("url", format!("its path is not valid: {error}")))?,
            endpoint,
            host,
            timeout: Duration::from_millis(config.timeout_ms),
        }))
    }

    async fn post(&self, pool: &Arc<Pool>, json: String) -> Result<(), PostError> {
        const AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));
        let mut request = Request::new(Full::new(Bytes::from(json)));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let call = pool.call(&self.endpoint, request, timeout_ms);
        let answer = tokio::time::timeout(self.timeout, call).await;
        let status = answer.map_err(|_| PostError::Timeout)??.head.status;
        if status.is_success() {
            Ok(())
        } else {
            Err(PostError::Status(status))
        }
    }
}

/// Which host the webhook is at, if there is one.
pub fn webhook_egress(config: &WebhookConfig) -> Result<Option<Egress>, ConfigProblem> {
    let target = WebhookTarget::read(config)?;
    Ok(target.map(|target| Egress::of(&target.endpoint)))
}

#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("it answered with status {0}")]
    Status(http::StatusCode),
    #[error("it did not answer in time ([gateway.webhook] timeout_ms)")]
    Timeout,
}

/// Starts the thread that looks and posts, until the gateway is told to stop. `None` if no webhook is
/// configured.
pub(crate) fn start(shared: Arc<GatewayState>) -> Result<Option<StoppableThread>, WebhookError> {
    let target = WebhookTarget::read(&shared.config.webhook).map_err(WebhookError::Config)?;
    let Some(target) = target else {
        return Ok(None);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(WebhookError::Start)?;
    let part = shared.parts.add("webhook");
    let post = move |stop: &StopSignal| {
        runtime.block_on(run(&shared, &target));
        // The gateway stops first, then this thread is told to.
        while *shared.stopped.borrow() && stop.sleep(LAST_POST_MAX) {}
        Ok(())
    };
    let thread = part.keep_running(post).map_err(WebhookError::Start)?;
    Ok(Some(thread))
}

/// The webhook could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("{}: {}", .0.path, .0.message)]
    Config(ConfigProblem),
    #[error("start the webhook's thread: {0}")]
    Start(#[source] io::Error),
}

async fn run(shared: &GatewayState, target: &WebhookTarget) {
    let pool = Arc::new(Pool::new(1));
    let mut stopped = shared.stopped.clone();
    let mut pause = LOOK;
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
        let mut stopping = shared.stopped.clone();
        let given_up = async {
            let _ = stopping.wait_for(|stop| *stop).await;
            tokio::time::sleep(LAST_POST_MAX).await;
        };
        let posted = tokio::select! {
            posted = look(shared, target, &pool) => posted,
            // What is cut off here is said again, by whoever speaks next.
            () = given_up => return,
        };
        pool.close_idle();
        pause = match posted {
            Ok(()) => LOOK,
            Err(error) => {
                shared.telemetry.metrics.webhook_failures.inc();
                // Said once, and not every few seconds.
                if pause == LOOK {
                    tracing::error!(%error, "webhook delivery failed, will retry");
                }
                (pause * 2).min(WEBHOOK_PAUSE_MAX)
            }
        };
    }
}

/// Posts what is due, up to the first post that fails.
async fn look(
    shared: &GatewayState,
    target: &WebhookTarget,
    pool: &Arc<Pool>,
) -> Result<(), PostError> {
    let log = &shared.notified;
    let control = shared.control.load_full();
    let now_us = Moment::now().unix_us;
    log.prune(control.rules(), now_us);
    if log.is_silent() {
        return Ok(());
    }
    for notification in pending(control.rules(), log, now_us) {
        if *shared.stopped.borrow() {
            break;
        }
        target.post(pool, body(&notification)).await?;
        shared.telemetry.metrics.webhook_posts.inc();
        log.note(notification.mark);
        if let Err(error) = log.save() {
            tracing::error!(%error, "failed to save the log of notified thresholds; they may be notified again");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_setting_is_named_and_the_url_is_shown_nowhere() {
        let config = |json: &str| serde_json::from_str::<WebhookConfig>(json).unwrap();
        assert_eq!(webhook_egress(&config("{}")).unwrap(), None);
        let good = webhook_egress(&config(
            r#"{"url":"https://hooks.slack.com/services/T/B/x"}"#,
        ));
        let good = good.unwrap().unwrap();
        assert_eq!((good.host.as_str(), good.port), ("hooks.slack.com", 443));
        for (json, setting) in [
            (r#"{"url":"ftp://secret"}"#, "url"),
            (r#"{"url":"/secret"}"#, "url"),
            (r#"{"url":"https://user:secret@host/"}"#, "url"),
            (
                r#"{"url":"https://secret","ca_file":"/nowhere"}"#,
                "ca_file",
            ),
            (r#"{"url":"https://secret","proxy":"ftp://p"}"#, "proxy"),
        ] {
            let problem = webhook_egress(&config(json)).unwrap_err();
            assert_eq!(problem.path, format!("gateway.webhook.{setting}"));
            assert!(!problem.message.contains("secret"), "{}", problem.message);
        }
    }
}
