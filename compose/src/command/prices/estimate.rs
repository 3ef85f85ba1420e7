//! `weir prices estimate`: what calls would cost.
//!
//! Calls are read as JSON, one after the other, and each is priced as the gateway would price it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write as _, stdin};
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_schemas::prices::{PricedCall, Prices, billed_prices, charge_whole};
use weir_schemas::{OtherModelUsage, Usage};

use super::{book_of, instant, today};
use crate::cli::{Cli, EstimateArgs};
use crate::context::settings;
use crate::output;

/// A call, in the words of the columns of `weir.attempts`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EstimatedCall {
    /// A provider of the configuration, or of the price book.
    provider: String,
    model: String,
    /// The model that answered, if that is another one.
    #[serde(default)]
    response_model: Option<String>,
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    service_tier: String,
    #[serde(default)]
    inference_geo: String,
    usage: BTreeMap<String, u64>,
    #[serde(default)]
    other_models: BTreeMap<String, BTreeMap<String, u64>>,
}

pub(super) fn run(cli: &Cli, args: &EstimateArgs) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let book = book_of(&config)?;
    let known_on = args.known_on.unwrap_or_else(today);
    let calls = read(args.calls.as_deref())?;
    let mut out = output::stdout();
    let calls = serde_json::Deserializer::from_reader(calls).into_iter();
    for (number, call) in (1..).zip(calls) {
        let call: EstimatedCall = call.with_context(|| format!("read call {number}"))?;
        let places = || config.price_providers(&call.provider);
        let find = |model: &str| book.find(&call.provider, places(), model, known_on);
        let priced = priced(&call, find).with_context(|| format!("price call {number}"))?;
        writeln!(out, "{priced}")?;
    }
    Ok(())
}

fn read(path: Option<&Path>) -> anyhow::Result<Box<dyn Read>> {
    let Some(path) = path else {
        return Ok(Box::new(stdin().lock()));
    };
    let file = File::open(path).with_context(|| format!("read {}", path.display()))?;
    Ok(Box::new(BufReader::new(file)))
}

fn priced(call: &EstimatedCall, find: impl Fn(&str) -> Option<Prices>) -> anyhow::Result<Value> {
    let usage = usage(&call.usage)?;
    let mut others = Vec::with_capacity(call.other_models.len());
    for (model, counts) in &call.other_models {
        others.push(OtherModelUsage {
            model: model.clone(),
            usage: self::usage(counts)?,
        });
    }
    let asked = PricedCall {
        at: instant(call.at.as_deref())?,
        input_tokens: usage.input_tokens.unwrap_or(0),
        service_tier: &call.service_tier,
        inference_geo: &call.inference_geo,
    };
    let own = find(&call.model);
    let answered = call.response_model.as_deref();
    let billed = billed_prices(own.as_ref(), &call.model, answered, &find);
    Ok(
        match charge_whole(billed.as_deref(), asked, &usage, &others, find) {
            Ok((cost, version)) => json!({
                "cost_usd": cost.to_string(), "price_version": &*version, "unpriced_reason": "",
            }),
            Err(reason) => json!({
                "cost_usd": null, "price_version": "",
                "unpriced_reason": reason.to_string(),
            }),
        },
    )
}

fn usage(counts: &BTreeMap<String, u64>) -> anyhow::Result<Usage> {
    let mut usage = Usage::default();
    for (name, count) in counts {
        let into = usage.count_mut(name).with_context(|| {
            let names = Usage::NAMES.join(", ");
            format!("nothing is counted as \"{name}\"; what is: {names}")
        })?;
        *into = Some(*count);
    }
    Ok(usage)
}
