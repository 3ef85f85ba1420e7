//! `weir prices import`: a newer price book from the Python package `genai-prices`.
//!
//! New rows are known from today on. A model whose rows did not change keeps its rows. A price that
//! changed without a date takes effect today and the old one ends: no change is dated back by accident.
//! A price of something that had none is no change: it is for all calls that the old prices are for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use jiff::civil::Date;
use weir_schemas::prices::{BUILT_IN, Book, Row};

use super::today;
use crate::cli::ImportPricesArgs;
use crate::output;

/// Prints the package's prices as rows.
const EXPORT: &str = include_str!("export.py");

pub(super) fn run(args: &ImportPricesArgs) -> anyhow::Result<()> {
    let before = match args.book.exists() {
        true => super::read(&args.book)?,
        false => BUILT_IN.to_owned(),
    };
    let before = Book::read(&before, "").with_context(|| args.book.display().to_string())?;
    let known_from = args.known_from.unwrap_or_else(today);
    let exported = export(args, known_from)?;
    let after = merge(&before, &exported, known_from)?;
    let added = after.rows().len() - before.rows().len();
    let partial = args.book.with_extension("csv.part");
    std::fs::write(&partial, after.to_csv())
        .and_then(|()| std::fs::rename(&partial, &args.book))
        .with_context(|| format!("write {}", args.book.display()))?;
    output::note(format_args!(
        "{}: {} rows, of which {added} are new and known from {known_from} on; use it with `[prices] book`",
        args.book.display(),
        after.rows().len()
    ));
    Ok(())
}

/// Runs the package, which prints its prices.
fn export(args: &ImportPricesArgs, known_from: Date) -> anyhow::Result<String> {
    let python = match &args.python {
        Some(python) => python.clone(),
        None => install(args.package_version.as_deref())?,
    };
    let output = Command::new(&python)
        .args(["-c", EXPORT, &known_from.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {}", python.display()))?;
    ensure!(
        output.status.success(),
        "{} failed to print the prices of genai-prices",
        python.display()
    );
    String::from_utf8(output.stdout).context("the prices are not UTF-8")
}

/// Creates a virtual environment with the package.
fn install(version: Option<&str>) -> anyhow::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("weir-genai-prices-{}", std::process::id()));
    let package = match version {
        None => "genai-prices".to_owned(),
        Some(version) => format!("genai-prices=={version}"),
    };
    let python = dir.join("bin/python");
    call(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    call(Command::new(&python).args(["-m", "pip", "install"]).args([
        "--quiet",
        "--disable-pip-version-check",
        &package,
    ]))?;
    Ok(python)
}

fn call(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status();
    let program = command.get_program().display();
    let status =
        status.with_context(|| format!("run {program} (Python 3 with venv and pip is needed)"))?;
    ensure!(status.success(), "{program} failed ({status})");
    Ok(())
}

/// Adds to a book what is new in the exported rows.
fn merge(before: &Book, exported: &str, known_from: Date) -> anyhow::Result<Book> {
    let mut after = before.clone();
    for (model, rows) in by_model(exported)? {
        let latest = generation(before, &model);
        if same(&latest, &rows) {
            continue;
        }
        if latest.iter().any(|row| row.known_from >= known_from) {
            bail!(
                "{}/{}: the book has rows known from {} on, which is not before {known_from}",
                model.0,
                model.1,
                latest[0].known_from
            );
        }
        after.add(succeed(&latest, rows, known_from));
    }
    Ok(after)
}

type Model = (String, String);

/// The exported rows by model, in the package's order: what is named first is looked at first.
fn by_model(exported: &str) -> anyhow::Result<Vec<(Model, Vec<Row>)>> {
    let book = Book::read(exported, "").context("parse the prices of the package")?;
    let mut order: Vec<(Model, Vec<Row>)> = Vec::new();
    let mut places: BTreeMap<Model, usize> = BTreeMap::new();
    for row in book.rows() {
        let model = (row.provider.clone(), row.model.clone());
        let place = *places.entry(model.clone()).or_insert_with(|| {
            order.push((model, Vec::new()));
            order.len() - 1
        });
        order[place].1.push((**row).clone());
    }
    Ok(order)
}

/// The latest generation of the rows of a model.
fn generation(book: &Book, (provider, model): &Model) -> Vec<Row> {
    let rows = book.rows().iter().map(|row| &**row);
    let rows = rows.filter(|row| row.provider == *provider && row.model == *model);
    let latest = rows.clone().map(|row| row.known_from).max();
    let rows = rows.filter(|row| Some(row.known_from) == latest);
    rows.cloned().collect()
}

/// Whether two generations have the same prices, apart from source and dates.
fn same(old: &[Row], new: &[Row]) -> bool {
    let old: Vec<&Row> = old.iter().filter(in_force).collect();
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| says(old, new))
}

fn in_force(row: &&Row) -> bool {
    row.effective_until.is_none()
}

/// Whether a row says what the package says now. Where the package gives no day, the row may have the
/// one on which it was learnt.
fn says(old: &Row, new: &Row) -> bool {
    let learnt = new.effective_from.is_none() && old.effective_from == Some(old.known_from);
    let as_new = Row {
        effective_from: if learnt { None } else { old.effective_from },
        known_from: new.known_from,
        source: new.source.clone(),
        ..old.clone()
    };
    as_new == *new
}

/// Whether a row says what another said, and more: prices of what had none.
fn adds_to(old: &Row, new: &Row) -> bool {
    let prices = old.prices.iter().zip(&new.prices);
    let only_adds = prices
        .into_iter()
        .all(|(old, new)| old.is_none() || old == new);
    let as_old = Row {
        prices: new.prices,
        unmetered: new.unmetered.clone(),
        geo_factors: new.geo_factors.clone(),
        ..old.clone()
    };
    only_adds && says(&as_old, new)
}

/// The generation that follows another one.
fn succeed(old: &[Row], new: Vec<Row>, known_from: Date) -> Vec<Row> {
    let known = |new: &Row| old.iter().filter(in_force).any(|old| adds_to(old, new));
    let changed = |row: &Row| row.effective_from.is_none() && !known(row);
    if old.is_empty() || !new.iter().any(changed) {
        return new;
    }
    let ending = old.iter().map(|row| Row {
        effective_until: Some(row.effective_until.unwrap_or(known_from).min(known_from)),
        known_from,
        ..row.clone()
    });
    let beginning = new.iter().map(|row| Row {
        effective_from: Some(row.effective_from.unwrap_or(known_from)),
        ..row.clone()
    });
    ending.chain(beginning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "provider,model,names,effective_from,effective_until,known_from,utc_from,utc_until,over_input_tokens,\
         service_tier,currency,input,cached_input,cache_write_5m,cache_write_1h,audio_input,output,reasoning,\
         audio_output,request,source";

    /// Rows of one model: first day, and price.
    fn exported(rows: &[(&str, &str)]) -> String {
        let line = |(from, input): &(&str, &str)| {
            format!("p,m,m,{from},,2000-01-01,,,,,USD,{input},,,,,,,,,the package\n")
        };
        format!("{HEAD}\n{}", rows.iter().map(line).collect::<String>())
    }

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    fn after(before: &Book, exported: &str, known_from: &str) -> Book {
        let exported = exported.replace("2000-01-01", known_from);
        merge(before, &exported, day(known_from)).unwrap()
    }

    /// What a million tokens cost on a day, as known on another.
    fn price(book: &Book, on: &str, known_on: &str) -> String {
        let call = weir_schemas::prices::PricedCall {
            at: instant(on),
            input_tokens: 1,
            service_tier: "",
            inference_geo: "",
        };
        let prices = book.find("", ["p"], "m", day(known_on)).unwrap();
        let price = prices
            .row(call)
            .unwrap()
            .0
            .price(weir_schemas::prices::Unit::Input);
        price.unwrap().to_string()
    }

    fn instant(on: &str) -> jiff::Timestamp {
        super::super::instant(Some(on)).unwrap()
    }

    #[test]
    fn what_did_not_change_is_left_alone_also_after_a_change() {
        let book = after(&Book::default(), &exported(&[("", "1")]), "2026-01-01");
        let book = after(&book, &exported(&[("", "1")]), "2026-02-01");
        assert_eq!(book.rows().len(), 1);
        let book = after(&book, &exported(&[("", "2")]), "2026-03-01");
        assert_eq!(book.rows().len(), 3);
        let book = after(&book, &exported(&[("", "2")]), "2026-04-01");
        assert_eq!(book.rows().len(), 3);
    }

    #[test]
    fn a_change_without_a_date_is_not_dated_back() {
        let book = after(&Book::default(), &exported(&[("", "1")]), "2026-01-01");
        let book = after(&book, &exported(&[("", "2")]), "2026-03-01");
        let book = after(&book, &exported(&[("", "3")]), "2026-05-01");
        assert_eq!(price(&book, "2026-02-28", "2026-12-31"), "1");
        assert_eq!(price(&book, "2026-03-01", "2026-12-31"), "2");
        assert_eq!(price(&book, "2026-05-01", "2026-12-31"), "3");
        assert_eq!(price(&book, "2026-05-01", "2026-04-01"), "2");
    }

    #[test]
    fn a_change_with_a_date_is_taken_as_it_is() {
        let book = after(&Book::default(), &exported(&[("", "1")]), "2026-01-01");
        let book = after(
            &book,
            &exported(&[("", "1"), ("2026-02-15", "2")]),
            "2026-03-01",
        );
        assert_eq!(price(&book, "2026-02-14", "2026-12-31"), "1");
        assert_eq!(price(&book, "2026-02-15", "2026-12-31"), "2");
        assert_eq!(price(&book, "2026-02-15", "2026-02-20"), "1");
    }

    #[test]
    fn a_price_dated_on_the_day_of_the_import_is_no_change() {
        let rows = exported(&[("", "1"), ("2026-03-01", "2")]);
        let book = after(&Book::default(), &rows, "2026-01-01");
        assert_eq!(after(&book, &rows, "2026-03-01").rows().len(), 2);
        let book = after(&Book::default(), &rows, "2026-03-01");
        assert_eq!(after(&book, &rows, "2026-04-01").rows().len(), 2);
    }
}
