//! `weir prices rerate`: prices stored attempts again.
//!
//! Stored costs stay. Each attempt whose cost changes gets a `Correction` event, which reaches the
//! tables like any other event; the view `weir.rerated_requests` shows both costs. A second run finds
//! nothing to do.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use weir_schemas::event::{Correction, Event};
use weir_schemas::prices::{Book, PricedCall, Prices, Unpriced, billed_prices, charge_whole};
use weir_schemas::{OtherModelUsage, PicoUsd, RequestId, Usage};

use super::{book_of, instant, today};
use crate::cli::{Cli, RerateArgs};
use crate::command::event_stream::EventStream;
use crate::command::sql::{quoted, reach};
use crate::config::Config;
use crate::context::{runtime, settings, unix_ms};
use crate::output;

/// A stored attempt, with its latest cost.
#[derive(Debug, Deserialize)]
struct StoredAttempt {
    request_id: uuid::Uuid,
    attempt: u32,
    ts_us: u64,
    delivered: bool,
    provider: String,
    model: String,
    service_tier: String,
    response_model: String,
    inference_geo: String,
    #[serde(flatten)]
    usage: Usage,
    other_models: BTreeMap<String, Usage>,
    cost_pico_usd: Option<i64>,
    price_version: String,
}

/// The sums over all attempts.
#[derive(Debug, Default)]
struct RerateTotals {
    attempts: u64,
    changed: u64,
    unpriced: u64,
    before: i128,
    after: i128,
}

pub(super) fn run(cli: &Cli, args: &RerateArgs) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let rater = Rater {
        book: book_of(&config)?,
        config: &config,
        known_on: args.known_on.unwrap_or_else(today),
        found: RefCell::default(),
    };
    let store = reach(&cli.data_dir, &config)?;
    let recorded = (!args.dry_run).then(|| EventStream::open(cli, &config));
    let events = recorded.transpose()?;
    let sql = attempts_sql(args)?;
    let sums = runtime()?.block_on(async {
        let mut answer = store.raw_query(&sql, "JSONEachRow")?;
        let (mut sums, mut rest) = (RerateTotals::default(), Vec::new());
        while let Some(piece) = answer.next().await? {
            rest.extend_from_slice(&piece);
            let end = rest.iter().rposition(|byte| *byte == b'\n');
            let whole = end.map_or(0, |at| at + 1);
            for stored in serde_json::Deserializer::from_slice(&rest[..whole]).into_iter() {
                let stored = stored.context("read a stored attempt")?;
                sums.add(&stored, &rater, events.as_ref(), &args.reason)?;
            }
            rest.drain(..whole);
        }
        anyhow::Ok(sums)
    })?;
    if let Some(events) = events {
        events.close()?;
    }
    sums.show(args)
}

/// Selects the attempts with usage, with their latest cost.
fn attempts_sql(args: &RerateArgs) -> anyhow::Result<String> {
    let micros =
        |at: Timestamp| format!("fromUnixTimestamp64Micro({}, 'UTC')", at.as_microsecond());
    let since = micros(instant(Some(&args.since))?);
    let until = match &args.until {
        Some(until) => micros(instant(Some(until))?),
        None => "now64(6, 'UTC')".into(),
    };
    let mut models = String::new();
    if let Some(model) = &args.model {
        models = format!("AND a.model = {}", quoted(model));
    }
    let counts = Usage::NAMES.map(|name| format!("a.{name} AS {name}"));
    let counts = counts.join(", ");
    Ok(format!(
        "SELECT toString(a.request_id) AS request_id, a.attempt AS attempt, toUnixTimestamp64Micro(a.ts) AS ts_us, \
         a.delivered AS delivered, a.provider AS provider, a.model AS model, a.response_model AS response_model, \
         a.service_tier AS service_tier, a.inference_geo AS inference_geo, {counts}, a.other_models AS other_models, \
         toInt64(if(c.is_corrected, c.cost, a.cost_usd) * 1000000000000) AS cost_pico_usd, \
         if(c.is_corrected, c.version, a.price_version) AS price_version \
         FROM weir.attempts AS a LEFT JOIN (\
           SELECT request_id, attempt, true AS is_corrected, \
                  tupleElement(argMax(tuple(cost_usd), (ts, seq)), 1) AS cost, \
                  argMax(price_version, (ts, seq)) AS version \
           FROM weir.corrections GROUP BY request_id, attempt) AS c \
         ON c.request_id = a.request_id AND c.attempt = a.attempt \
         WHERE a.ts >= {since} AND a.ts < {until} AND a.usage_source != 'none' {models} \
         SETTINGS output_format_json_quote_64bit_integers = 0"
    ))
}

/// The price book, with a cache of the prices found in it.
struct Rater<'a> {
    book: Book,
    config: &'a Config,
    known_on: jiff::civil::Date,
    found: RefCell<HashMap<(String, String), Option<Prices>>>,
}

impl Rater<'_> {
    fn rate(&self, stored: &StoredAttempt) -> Result<(PicoUsd, Arc<str>), Unpriced> {
        let others = stored.other_models.iter();
        let others: Vec<OtherModelUsage> = others
            .map(|(model, usage)| OtherModelUsage {
                model: model.clone(),
                usage: *usage,
            })
            .collect();
        let (config, book, known_on) = (self.config, &self.book, self.known_on);
        let found = &self.found;
        let find = |model: &str| {
            let key = (stored.provider.clone(), model.to_owned());
            if let Some(known) = found.borrow().get(&key) {
                return known.clone();
            }
            let places = config.price_providers(&stored.provider);
            let prices = book.find(&stored.provider, places, model, known_on);
            found.borrow_mut().insert(key, prices.clone());
            prices
        };
        let at_us = i64::try_from(stored.ts_us).unwrap_or(i64::MAX);
        let call = PricedCall {
            at: Timestamp::from_microsecond(at_us).unwrap_or(Timestamp::MAX),
            input_tokens: stored.usage.input_tokens.unwrap_or(0),
            service_tier: &stored.service_tier,
            inference_geo: &stored.inference_geo,
        };
        let asked = find(&stored.model);
        let answered = Some(stored.response_model.as_str()).filter(|model| !model.is_empty());
        let billed = billed_prices(asked.as_ref(), &stored.model, answered, find);
        charge_whole(billed.as_deref(), call, &stored.usage, &others, find)
    }
}

impl RerateTotals {
    fn add(
        &mut self,
        stored: &StoredAttempt,
        rater: &Rater<'_>,
        events: Option<&EventStream>,
        reason: &str,
    ) -> anyhow::Result<()> {
        let rated = rater.rate(stored);
        let after = rated.as_ref().ok().map(|(cost, _)| cost.0);
        self.attempts += 1;
        self.unpriced += u64::from(after.is_none());
        self.before += i128::from(stored.cost_pico_usd.unwrap_or(0));
        self.after += i128::from(after.unwrap_or(0));
        if after == stored.cost_pico_usd {
            return Ok(());
        }
        self.changed += 1;
        match events {
            Some(events) => correct(events, stored, rated, reason),
            None => Ok(()),
        }
    }

    fn show(&self, args: &RerateArgs) -> anyhow::Result<()> {
        let usd = |pico: i128| PicoUsd(i64::try_from(pico).unwrap_or(i64::MAX)).to_string();
        let (before, after) = (usd(self.before), usd(self.after));
        if args.json {
            return output::print(&json!({
                "tries": self.attempts, "corrected": self.changed, "unpriced": self.unpriced,
                "before_usd": before, "after_usd": after, "dry_run": args.dry_run,
            }));
        }
        let verb = match args.dry_run {
            true => "would change",
            false => "corrected",
        };
        writeln!(
            output::stdout(),
            "{} attempts, {} {verb}: {before} USD before, {after} USD now; {} unpriced",
            self.attempts,
            self.changed,
            self.unpriced
        )?;
        Ok(())
    }
}

/// Records the new cost of an attempt.
fn correct(
    events: &EventStream,
    stored: &StoredAttempt,
    rated: Result<(PicoUsd, Arc<str>), Unpriced>,
    reason: &str,
) -> anyhow::Result<()> {
    let (cost, version, unpriced_reason) = match rated {
        Ok((cost, version)) => (Some(cost), Some(version), None),
        Err(reason) => (None, None, Some(reason.to_string())),
    };
    events.append(Event::Correction(Correction {
        ts_us: (unix_ms() * 1000).into(),
        request_id: RequestId::from_bytes(stored.request_id.into_bytes()),
        attempt: u16::try_from(stored.attempt).unwrap_or(u16::MAX),
        attempt_ts_us: stored.ts_us.into(),
        delivered: stored.delivered,
        cost_before_pico_usd: stored.cost_pico_usd.map(PicoUsd),
        cost_pico_usd: cost,
        price_version_before: Some(stored.price_version.as_str()).filter(|text| !text.is_empty()),
        price_version: version.as_deref(),
        actor: &events.actor,
        reason,
        unpriced_reason: unpriced_reason.as_deref(),
    }))
}
