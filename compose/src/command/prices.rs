//! `weir prices`: the price book.

mod estimate;
mod import;
mod rerate;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use weir_schemas::prices::{Book, PricedCall, Prices, Row, Unit};

use crate::cli::{Cli, PricesCommand, ShowPriceArgs};
use crate::config::Config;
use crate::context::{settings, unix_ms};
use crate::output;

pub(crate) fn run(cli: &Cli, command: &PricesCommand) -> anyhow::Result<()> {
    match command {
        PricesCommand::Show(args) => show(cli, args),
        PricesCommand::Import(args) => import::run(args),
        PricesCommand::Rerate(args) => rerate::run(cli, args),
        PricesCommand::Estimate(args) => estimate::run(cli, args),
    }
}

fn now() -> Timestamp {
    let ms = i64::try_from(unix_ms()).unwrap_or(0);
    Timestamp::from_millisecond(ms).unwrap_or_default()
}

fn today() -> Date {
    now().to_zoned(TimeZone::UTC).date()
}

/// Explains what a model costs: which row applies, and which others there are.
fn show(cli: &Cli, args: &ShowPriceArgs) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let book = book_of(&config)?;
    let at = instant(args.at.as_deref())?;
    let known_on = args.known_on.unwrap_or_else(today);
    let providers = match &args.provider {
        Some(provider) => vec![provider.as_str()],
        None => book.providers_with(&args.model),
    };
    let found = providers.into_iter().filter_map(|provider| {
        // A provider of the configuration has the prices of its vendor, as in the gateway.
        let places = config.price_providers(provider);
        let prices = book.find(provider, places, &args.model, known_on)?;
        Some((provider, prices))
    });
    let found: Vec<(&str, Prices)> = found.collect();
    if found.is_empty() {
        let of = args.provider.as_ref();
        let of = of.map_or_else(String::new, |name| format!(" of provider {name}"));
        bail!(
            "there is no price for \"{}\"{of}, as known on {known_on}: its calls are unpriced (cost_usd is NULL). \
             Add a [[price]] to the configuration, or import a newer book with `weir prices import`",
            args.model
        );
    }
    let call = PricedCall {
        at,
        input_tokens: args.input_tokens,
        service_tier: &args.tier,
        inference_geo: "",
    };
    let found = found.iter();
    if args.json {
        let shown = found.map(|(provider, prices)| shown(provider, prices, call));
        return output::print(&shown.collect::<Vec<_>>());
    }
    let mut out = output::stdout();
    for (provider, prices) in found {
        explain(&mut out, provider, &args.model, prices, call)?;
    }
    Ok(())
}

/// The price book with the configuration's own prices in it.
fn book_of(config: &Config) -> anyhow::Result<Book> {
    config.price_book().map_err(|problems| {
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow!("{}", said.join("\n"))
    })
}

/// A day or an instant; default: now.
pub(crate) fn instant(text: Option<&str>) -> anyhow::Result<Timestamp> {
    let Some(text) = text else { return Ok(now()) };
    if let Ok(day) = text.parse::<Date>() {
        return Ok(day.to_zoned(TimeZone::UTC)?.timestamp());
    }
    text.parse().with_context(|| {
        format!("expected a day (2026-09-01) or an instant (2026-09-01T08:00:00Z), got \"{text}\"")
    })
}

fn shown(provider: &str, prices: &Prices, call: PricedCall<'_>) -> Value {
    let applies = prices.row(call).map(|(_, version)| version.clone());
    let rows: Vec<Value> = prices
        .rows()
        .map(|(row, version)| {
            let day = |day: Option<Date>| day.map(|day| day.to_string());
            let per_usd = prices.per_usd(&row.currency, call.at).ok();
            json!({
                "applies": applies.as_ref() == Some(version),
                "price_version": &**version,
                "model": row.model,
                "currency": row.currency,
                "prices": unit_prices(row).collect::<BTreeMap<_, _>>(),
                "per_usd": per_usd.map(|rate| rate.to_string()),
                "effective_from": day(row.effective_from),
                "effective_until": day(row.effective_until),
                "known_from": row.known_from.to_string(),
                "over_input_tokens": row.over_input_tokens,
                "service_tier": row.service_tier,
                "unmetered": row.unmetered,
                "geo_factors": geo_factors(row).collect::<BTreeMap<_, _>>(),
                "source": row.source,
            })
        })
        .collect();
    json!({ "provider": provider, "at": call.at.to_string(), "rows": rows })
}

fn explain(
    out: &mut impl Write,
    provider: &str,
    model: &str,
    prices: &Prices,
    call: PricedCall<'_>,
) -> anyhow::Result<()> {
    let applies = prices.row(call).map(|(_, version)| version.clone());
    writeln!(out, "{model} at {provider}, a call on {}:", call.at)?;
    match &applies {
        Some(version) => writeln!(
            out,
            "  {version} applies: the last row whose conditions match"
        )?,
        None => writeln!(out, "  no row applies: the call is unpriced")?,
    }
    for (row, version) in prices.rows() {
        let mark = match applies.as_ref() == Some(version) {
            true => "->",
            false => "  ",
        };
        writeln!(out, "{mark} {}", conditions(row))?;
        explain_prices(out, row)?;
        let currency = &row.currency;
        if currency != "USD" {
            match prices.per_usd(currency, call.at) {
                Ok(rate) => writeln!(out, "     1 USD = {rate} {currency}")?,
                Err(error) => writeln!(out, "     {error}: unpriced; add an [[exchange_rate]]")?,
            }
        }
        writeln!(out, "     source: {}", row.source)?;
    }
    Ok(())
}

/// The prices, by what they are per.
fn explain_prices(out: &mut impl Write, row: &Row) -> anyhow::Result<()> {
    let mut by_measure: Vec<(&str, Vec<String>)> = Vec::new();
    for unit in Unit::ALL {
        let Some(price) = row.price(unit) else {
            continue;
        };
        let shown = format!("{} {price}", unit.as_str());
        match by_measure.iter_mut().find(|(per, _)| *per == unit.per()) {
            Some((_, prices)) => prices.push(shown),
            None => by_measure.push((unit.per(), vec![shown])),
        }
    }
    for (per, prices) in &by_measure {
        writeln!(
            out,
            "     {} per {per}: {}",
            row.currency,
            prices.join(", ")
        )?;
    }
    for (geo, by) in geo_factors(row) {
        writeln!(
            out,
            "     tokens of a model that ran in \"{geo}\": times {by}"
        )?;
    }
    if !row.unmetered.is_empty() {
        let unmetered = &row.unmetered;
        writeln!(
            out,
            "     billed by {unmetered}, which are not metered: calls are unpriced"
        )?;
    } else if by_measure.is_empty() {
        writeln!(out, "     no price is known: calls are unpriced")?;
    }
    Ok(())
}

fn geo_factors(row: &Row) -> impl Iterator<Item = (&str, String)> {
    let factors = row.geo_factors.iter();
    factors.map(|(geo, by)| (geo.as_str(), by.to_string()))
}

fn unit_prices(row: &Row) -> impl Iterator<Item = (&'static str, String)> {
    let price = |unit: &Unit| Some((unit.as_str(), row.price(*unit)?.to_string()));
    Unit::ALL.iter().filter_map(price)
}

fn conditions(row: &Row) -> String {
    let mut text = match (row.effective_from, row.effective_until) {
        (None, None) => "always".to_owned(),
        (Some(from), None) => format!("from {from} on"),
        (None, Some(until)) => format!("until {until}"),
        (Some(from), Some(until)) => format!("from {from} until {until}"),
    };
    if let Some(hours) = row.hours {
        text += &format!(", {}–{} UTC", hours.from, hours.until);
    }
    if row.over_input_tokens > 0 {
        text += &format!(", over {} input tokens", row.over_input_tokens);
    }
    if !row.service_tier.is_empty() {
        text += &format!(", service tier {}", row.service_tier);
    }
    text + &format!(" (known since {})", row.known_from)
}

/// Reads a book from a file.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read the price book {}", path.display()))
}
