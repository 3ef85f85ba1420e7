//! Tells a webhook that a budget has reached one of its thresholds.
//!
//! A thread of its own looks at all budgets once a second, compares how far each has come with what
//! was said of it, and posts the difference; a post that failed is due again at the next look. So
//! nothing waits in a queue, no request waits for anybody, and what was due when the gateway was
//! killed is due when it is back. Of several thresholds that were passed at once the highest is said.
//!
//! What was said is kept in `spend/said.json`, and gateways of a cluster tell it each other
//! ([`peers`](crate::peers)); of those that hear each other only one speaks. Each threshold is said
//! once in each window, and a second time if the gateway dies between a post and writing it down, or
//! if two that do not hear each other both speak.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request, Uri};
use http_body_util::Full;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use weir_limits::Purse;

use crate::admit::Reached;
use crate::clock::Moment;
use crate::config::WebhookConfig;
use crate::control::policy::{Budget, Rules};
use crate::directory::{ConfigProblem, Egress};
use crate::pipeline::Shared;
use crate::upstream::{Call, CallError, Endpoint, Pool, Reach};

/// How often budgets are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a post may still take when the gateway stops.
const LAST_POST_MAX: Duration = Duration::from_secs(2);
/// Longest pause after posts that failed.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Posts of one look; further ones wait for the next.
const POSTS_MAX: usize = 100;

/// How far a budget had come when somebody was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) budget: String,
    /// Whose budget it is, where it is counted apart.
    pub(crate) subject: String,
    /// Beginning of the window; 0 for a rolling one.
    pub(crate) start_ms: u64,
    pub(crate) percent: u8,
}

/// What was said of all budgets, and whether it is ours to speak.
#[derive(Debug)]
pub(crate) struct Said {
    path: PathBuf,
    marks: Mutex<HashMap<(String, String), Mark>>,
    /// Another gateway speaks.
    is_silent: AtomicBool,
}

impl Said {
    /// Reads what was said before. A file that cannot be read is as good as none: too much is said
    /// then, and not too little.
    pub(crate) fn open(spend_dir: &Path) -> Self {
        let path = spend_dir.join("said.json");
        let marks = match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %path.display(), "read what the webhook was told");
                Vec::new()
            }),
            Err(_) => Vec::new(),
        };
        let said = Self {
            path,
            marks: Mutex::default(),
            is_silent: AtomicBool::new(false),
        };
        marks.into_iter().for_each(|mark| said.note(mark));
        said
    }

    /// Notes what was said, here or elsewhere. The latest window counts, and in it the highest
    /// threshold.
    pub(crate) fn note(&self, mark: Mark) {
        let mut marks = self.marks.lock();
        let place = (mark.budget.clone(), mark.subject.clone());
        let known = marks.get(&place);
        let is_news = known
            .is_none_or(|known| (known.start_ms, known.percent) < (mark.start_ms, mark.percent));
        if is_news {
            marks.insert(place, mark);
        }
    }

    /// Everything that was said.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        self.marks.lock().values().cloned().collect()
    }

    /// Leaves it to another gateway to speak, or takes it on.
    pub(crate) fn leave_to_others(&self, leave: bool) {
        self.is_silent.store(leave, Ordering::Relaxed);
    }

    /// Forgets budgets that are gone and windows that are over, and takes back what a rolling window
    /// has left behind, or a raised limit.
    fn tidy(&self, rules: &Rules, now_us: u64) {
        self.marks.lock().retain(|_, mark| {
            let Some(budget) = rules.budget(&mark.budget) else {
                return false;
            };
            let purse = budget.counters.named(&mark.subject);
            let (start_ms, reached) = purse.reached(&budget.spec, now_us);
            // Another gateway's clock may be ahead.
            if start_ms < mark.start_ms {
                return true;
            }
            mark.percent = reached.map_or(0, |reached| reached.percent.min(mark.percent));
            start_ms == mark.start_ms && mark.percent > 0
        });
    }

    fn keep(&self) -> io::Result<()> {
        let unfinished = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&unfinished)?;
        serde_json::to_writer(&file, &self.marks())?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&unfinished, &self.path)
    }
}

/// A threshold that somebody is to be told of.
#[derive(Debug)]
struct Due {
    mark: Mark,
    reached: Reached,
}

impl Due {
    /// As Slack's incoming webhooks take it, with the facts beside it for whoever reads JSON.
    fn json(&self) -> String {
        let Reached {
            name,
            percent,
            spent,
            limit,
            resets,
            hard,
            ..
        } = &self.reached;
        let until = resets.as_ref().map_or_else(
            || "It does not begin anew.".to_owned(),
            |resets| format!("It begins anew at {resets}."),
        );
        let then = match (hard, percent) {
            (true, 100..) => " Requests are refused.",
            (true, _) => " When it is used up, requests are refused.",
            (false, _) => "",
        };
        let text =
            format!("Budget \"{name}\" has reached {percent}%: {spent} of {limit}.{then} {until}");
        let mut facts = self.reached.facts();
        facts["id"] = self.mark.budget.clone().into();
        json!({ "text": text, "budget": facts }).to_string()
    }
}

/// What is to be said, budget by budget.
fn due(rules: &Rules, said: &Said, now_us: u64) -> Vec<Due> {
    let marks = said.marks.lock();
    let mut due = Vec::new();
    for budget in rules.budgets() {
        for (subject, purse) in budget.counters.all() {
            let Some(reached) = reached(budget, &subject, &purse, now_us) else {
                continue;
            };
            let place = (reached.mark.budget.clone(), reached.mark.subject.clone());
            let told = marks
                .get(&place)
                .filter(|told| told.start_ms == reached.mark.start_ms);
            if told.is_none_or(|told| told.percent < reached.mark.percent) {
                due.push(reached);
            }
            if due.len() == POSTS_MAX {
                return due;
            }
        }
    }
    due
}

fn reached(budget: &Budget, subject: &str, purse: &Purse, now_us: u64) -> Option<Due> {
    let (start_ms, crossing) = purse.reached(&budget.spec, now_us);
    let crossing = crossing?;
    Some(Due {
        mark: Mark {
            budget: budget.id.to_string(),
            subject: subject.to_owned(),
            start_ms,
            percent: crossing.percent,
        },
        reached: Reached::of(budget, budget.name_of(subject), &crossing),
    })
}

/// Where the webhook is.
#[derive(Clone, Debug)]
struct Target {
    endpoint: Endpoint,
    host: HeaderValue,
    path: Uri,
    timeout: Duration,
}

impl Target {
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
        let call = Call {
            endpoint: &self.endpoint,
            request,
            connect_timeout_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let answer = tokio::time::timeout(self.timeout, pool.call(call)).await;
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
    let target = Target::read(config)?;
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

/// The thread that looks and posts.
#[derive(Debug)]
pub(crate) struct Webhook {
    thread: JoinHandle<()>,
}

impl Webhook {
    /// `None` if no webhook is configured. It ends when the gateway is told to stop.
    pub(crate) fn start(shared: Arc<Shared>) -> Result<Option<Self>, WebhookError> {
        let target = Target::read(&shared.config.webhook).map_err(WebhookError::Config)?;
        let Some(target) = target else {
            return Ok(None);
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(WebhookError::Start)?;
        let thread = std::thread::Builder::new()
            .name("webhook".into())
            .spawn(move || runtime.block_on(run(&shared, &target)))
            .map_err(WebhookError::Start)?;
        Ok(Some(Self { thread }))
    }

    pub(crate) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the webhook thread panicked");
        }
    }
}

/// The webhook could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("{}: {}", .0.path, .0.message)]
    Config(ConfigProblem),
    #[error("start the webhook's thread: {0}")]
    Start(#[source] io::Error),
}

async fn run(shared: &Shared, target: &Target) {
    let pool = Arc::<Pool>::default();
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
                shared.telemetry.webhook_failures.inc();
                // Said once, and not every few seconds.
                if pause == LOOK {
                    tracing::error!(%error, "tell the webhook about a budget; it is tried again");
                }
                (pause * 2).min(PAUSE_MAX)
            }
        };
    }
}

/// Posts what is due, up to the first post that fails.
async fn look(shared: &Shared, target: &Target, pool: &Arc<Pool>) -> Result<(), PostError> {
    let said = &shared.said;
    let control = shared.control.load_full();
    let now_us = Moment::now().unix_us;
    said.tidy(control.rules(), now_us);
    if said.is_silent.load(Ordering::Relaxed) {
        return Ok(());
    }
    for due in due(control.rules(), said, now_us) {
        if *shared.stopped.borrow() {
            break;
        }
        target.post(pool, due.json()).await?;
        shared.telemetry.webhook_posts.inc();
        said.note(due.mark);
        if let Err(error) = said.keep() {
            tracing::error!(%error, "write down what the webhook was told; it may be told twice");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::control::record::{Kind, Record};

    const HOUR_US: u64 = 3_600_000_000;

    fn rules(json: &str) -> Rules {
        let record = Record::parse(Kind::Budget, json).unwrap();
        let records = BTreeMap::from([((Kind::Budget, record.id()), Arc::new(record))]);
        Rules::build(&records, &Rules::default())
    }

    fn spend(rules: &Rules, subject: &str, amount: u128, now_us: u64) {
        let budget = rules.budgets().next().unwrap();
        let purse = budget.counters.named(subject);
        purse.restore(&budget.spec, now_us / 1000, amount, now_us);
    }

    /// What is said now, as subject and percent; it counts as said afterwards.
    fn said_now(rules: &Rules, said: &Said, now_us: u64) -> Vec<(String, u8)> {
        said.tidy(rules, now_us);
        let due = due(rules, said, now_us);
        due.iter().for_each(|due| said.note(due.mark.clone()));
        let mut told: Vec<_> = due
            .iter()
            .map(|due| (due.mark.subject.clone(), due.mark.percent))
            .collect();
        told.sort();
        told
    }

    fn one(subject: &str, percent: u8) -> Vec<(String, u8)> {
        vec![(subject.to_owned(), percent)]
    }

    #[test]
    fn each_threshold_is_said_once_in_each_window_over_restarts_too() {
        let dir = tempfile::tempdir().unwrap();
        let rules = rules(r#"{"id":"b","tokens":100,"window":"hour","per":["user"]}"#);
        let said = Said::open(dir.path());
        let now_us = 100 * HOUR_US;
        assert!(said_now(&rules, &said, now_us).is_empty());
        spend(&rules, "ana", 49, now_us);
        assert!(said_now(&rules, &said, now_us).is_empty());
        spend(&rules, "ana", 40, now_us);
        assert_eq!(
            said_now(&rules, &said, now_us),
            one("ana", 80),
            "not 50, too"
        );
        assert!(said_now(&rules, &said, now_us).is_empty());
        spend(&rules, "ben", 50, now_us);
        assert_eq!(said_now(&rules, &said, now_us), one("ben", 50));
        said.keep().unwrap();

        let said = Said::open(dir.path());
        assert!(said_now(&rules, &said, now_us).is_empty());
        spend(&rules, "ana", 11, now_us);
        assert_eq!(said_now(&rules, &said, now_us), one("ana", 100));
        spend(&rules, "ana", 60, now_us + HOUR_US);
        assert_eq!(said_now(&rules, &said, now_us + HOUR_US), one("ana", 50));
    }

    #[test]
    fn what_a_rolling_window_left_behind_is_said_again_when_it_is_reached_again() {
        let dir = tempfile::tempdir().unwrap();
        let rules = rules(r#"{"id":"b","tokens":100,"window":"1h"}"#);
        let said = Said::open(dir.path());
        let now_us = 100 * HOUR_US;
        spend(&rules, "", 60, now_us);
        assert_eq!(said_now(&rules, &said, now_us), one("", 50));
        let later_us = now_us + 2 * HOUR_US;
        assert!(said_now(&rules, &said, later_us).is_empty());
        spend(&rules, "", 60, later_us);
        assert_eq!(said_now(&rules, &said, later_us), one("", 50));
    }

    #[test]
    fn an_older_or_lower_mark_from_elsewhere_takes_nothing_back() {
        let dir = tempfile::tempdir().unwrap();
        let said = Said::open(dir.path());
        let mark = |start_ms, percent| Mark {
            budget: "b".into(),
            subject: String::new(),
            start_ms,
            percent,
        };
        for told in [mark(10, 80), mark(10, 50), mark(5, 100)] {
            said.note(told);
        }
        assert_eq!(said.marks(), [mark(10, 80)]);
        said.note(mark(20, 50));
        assert_eq!(said.marks(), [mark(20, 50)]);
    }

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
