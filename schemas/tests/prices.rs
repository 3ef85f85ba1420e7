//! The price book: which row counts, and what comes out, against exact rational arithmetic.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on must fail where it stands"
)]

use std::cmp::Ordering;
use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::civil::Date;
use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::prelude::*;
use weir_schemas::prices::{Amount, Book, PricedCall, Prices, Row, Unit, Unpriced, providers_of};
use weir_schemas::{PicoUsd, Usage};

fn book() -> &'static Book {
    static BOOK: OnceLock<Book> = OnceLock::new();
    BOOK.get_or_init(|| Book::built_in().unwrap())
}

fn prices(dialect: &str, model: &str) -> Prices {
    let providers = providers_of(dialect).iter().copied();
    book().find("", providers, model, Date::MAX).unwrap()
}

fn call(at: &str, input_tokens: u64) -> PricedCall<'static> {
    PricedCall {
        at: at.parse().unwrap(),
        input_tokens,
        service_tier: "",
    }
}

fn tokens(input: u64, output: u64) -> Usage {
    Usage {
        input_tokens: Some(input),
        output_tokens: Some(output),
        ..Usage::default()
    }
}

/// Dollars of a charge, as text.
fn cost(prices: &Prices, call: PricedCall<'_>, usage: &Usage) -> String {
    prices.charge(call, usage).unwrap().0.to_string()
}

#[test]
fn every_row_of_the_built_in_book_names_a_source_and_reads_back() {
    let text = book().to_csv();
    let again = Book::read(&text, "").unwrap();
    assert_eq!(again.rows(), book().rows());
    assert!(book().rows().len() > 2000);
    assert!(
        book()
            .rows()
            .iter()
            .all(|row| row.source.contains("http") || row.source.contains("genai-prices"))
    );
}

#[test]
fn a_plain_call_costs_tokens_times_price() {
    // $0.15 and $0.60 per million.
    let mini = prices("openai", "gpt-4o-mini");
    assert_eq!(
        cost(&mini, call("2026-11-21T00:00:00Z", 1), &tokens(1_000, 500)),
        "0.000450000000"
    );
}

#[test]
fn cached_input_costs_less_and_is_not_counted_twice() {
    let mini = prices("openai", "gpt-4o-mini");
    let usage = Usage {
        cached_input_tokens: Some(1_000),
        ..tokens(1_000, 0)
    };
    assert_eq!(
        cost(&mini, call("2026-11-21T00:00:00Z", 1_000), &usage),
        "0.000075000000"
    );
}

#[test]
fn a_price_change_takes_effect_on_its_day() {
    let luna = prices("openai", "gpt-5.6-luna-2026-07-09");
    let usage = tokens(1_000_000, 0);
    assert_eq!(
        cost(&luna, call("2026-07-29T23:59:59Z", 1), &usage),
        "1.000000000000"
    );
    assert_eq!(
        cost(&luna, call("2026-07-30T00:00:00Z", 1), &usage),
        "0.200000000000"
    );
}

#[test]
fn a_large_prompt_costs_more_from_its_first_token_on() {
    let luna = prices("openai", "gpt-5.6-luna");
    let at = "2026-11-21T00:00:00Z";
    assert_eq!(
        cost(&luna, call(at, 272_000), &tokens(272_000, 0)),
        "0.054400000000"
    );
    assert_eq!(
        cost(&luna, call(at, 272_001), &tokens(272_001, 0)),
        "0.108800400000"
    );
}

#[test]
fn hours_of_the_day_count() {
    let chat = prices("deepseek", "deepseek-chat");
    let usage = tokens(1_000_000, 0);
    assert_eq!(
        cost(&chat, call("2026-11-21T16:30:00Z", 1), &usage),
        "0.135000000000"
    );
    assert_eq!(
        cost(&chat, call("2026-11-21T16:29:59Z", 1), &usage),
        "0.270000000000"
    );
}

#[test]
fn a_service_tier_has_rows_of_its_own_and_an_unknown_one_none() {
    let luna = prices("openai", "gpt-5.6-luna");
    let at = |service_tier| PricedCall {
        service_tier,
        ..call("2026-11-21T00:00:00Z", 1)
    };
    let usage = tokens(1_000_000, 0);
    assert_eq!(cost(&luna, at("flex"), &usage), "0.100000000000");
    assert_eq!(cost(&luna, at("default"), &usage), "0.200000000000");
    assert_eq!(luna.charge(at("platinum"), &usage), Err(Unpriced::NoRow));
}

#[test]
fn another_currency_is_exchanged_at_the_rate_of_the_day() {
    let doubao = prices("doubao", "doubao-seed-2-1-pro-260915");
    // 6 CNY per million, 7.0779 CNY per dollar: 0.847709066248463…
    assert_eq!(
        cost(
            &doubao,
            call("2026-11-21T00:00:00Z", 1),
            &tokens(1_000_000, 0)
        ),
        "0.847709066248"
    );
}

#[test]
fn what_has_no_price_is_unpriced_and_never_free() {
    let at = call("2026-11-21T00:00:00Z", 40_000);
    assert!(
        book()
            .find("", ["openai"], "llama-of-ours", Date::MAX)
            .is_none()
    );
    let pro = prices("doubao", "doubao-seed-2-0-pro");
    assert_eq!(
        pro.charge(at, &tokens(40_000, 0)),
        Err(Unpriced::NoPrice("input"))
    );
    let before = call("2026-01-01T00:00:00Z", 1);
    assert_eq!(pro.charge(before, &tokens(1, 1)), Err(Unpriced::NoRow));
    let mini = prices("openai", "gpt-4o-mini");
    assert_eq!(mini.charge(at, &Usage::default()), Err(Unpriced::NoUsage));
    assert_eq!(
        mini.charge(at, &tokens(u64::MAX, 0)),
        Err(Unpriced::TooLarge)
    );
}

#[test]
fn what_was_known_on_a_day_can_be_asked() {
    let row = |known_from: &str, input: &str| {
        format!("p,m,m,,,{known_from},,,,,USD,{input},,,,,,,,,https://example.com\n")
    };
    let head = book().to_csv().lines().next().unwrap().to_owned() + "\n";
    let text = head + &row("2026-01-01", "1") + &row("2026-03-01", "2");
    let book = Book::read(&text, "").unwrap();
    let known = |day: &str| {
        let prices = book.find("", ["p"], "m", day.parse().unwrap())?;
        Some(cost(
            &prices,
            call("2025-12-24T00:00:00Z", 1),
            &tokens(1_000_000, 0),
        ))
    };
    assert_eq!(known("2025-12-31"), None);
    assert_eq!(known("2026-02-28").unwrap(), "1.000000000000");
    assert_eq!(known("2026-03-01").unwrap(), "2.000000000000");
}

#[test]
fn a_mistake_in_a_book_is_named_with_its_line_and_column() {
    let head = book().to_csv().lines().next().unwrap().to_owned();
    let read = |line: &str| {
        Book::read(&format!("{head}\n{line}\n"), "")
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        read("p,m,m,,,2026-01-01,,,,,USD,1.2.3,,,,,,,,,s"),
        "line 2, column input: \"1.2.3\" is not an amount: digits, and at most twelve of them behind a point"
    );
    assert!(
        read("p,m,m,soon,,2026-01-01,,,,,USD,1,,,,,,,,,s")
            .starts_with("line 2, column effective_from")
    );
    assert!(read("p,m").contains("line 2") || read("p,m").contains("line: 2"));
    let error = Book::read("provider,price\n", "").unwrap_err().to_string();
    assert!(
        error.starts_with("line 1: the columns must be provider,model,"),
        "{error}"
    );
}

/// The same as [`Row::charge`], in fractions.
fn oracle(row: &Row, usage: &Usage, per_usd: Amount) -> BigRational {
    let whole = |number: u64| BigRational::from_integer(BigInt::from(number));
    let price = |units: &[Unit]| {
        let found = units
            .iter()
            .find_map(|unit| row.price(*unit))
            .unwrap_or_default();
        whole(found.0) / whole(1_000_000)
    };
    let count = |tokens: Option<u64>| whole(tokens.unwrap_or(0));
    let zero = whole(0);
    let rest = |all: BigRational, parts: BigRational| {
        if all > parts {
            all - parts
        } else {
            zero.clone()
        }
    };
    let [read, write_5m, write_1h, heard] = [
        usage.cached_input_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
        usage.audio_input_tokens,
    ]
    .map(count);
    let [thought, spoken] = [usage.reasoning_tokens, usage.audio_output_tokens].map(count);
    let plain_input = rest(
        count(usage.input_tokens),
        &read + &write_5m + &write_1h + &heard,
    );
    let plain_output = rest(count(usage.output_tokens), &thought + &spoken);
    use Unit::{
        AudioInput, AudioOutput, CacheWrite1h, CacheWrite5m, CachedInput, Input, Output, Reasoning,
    };
    let total = plain_input * price(&[Input])
        + read * price(&[CachedInput, Input])
        + write_5m * price(&[CacheWrite5m, Input])
        + write_1h * price(&[CacheWrite1h, CacheWrite5m, Input])
        + heard * price(&[AudioInput, Input])
        + plain_output * price(&[Output])
        + thought * price(&[Reasoning, Output])
        + spoken * price(&[AudioOutput, Output])
        + whole(row.price(Unit::Request).unwrap_or_default().0);
    total * whole(Amount::ONE.0) / whole(per_usd.0)
}

prop_compose! {
    fn usages()(counts in proptest::array::uniform8(proptest::option::of(0_u64..10_000_000_000))) -> Usage {
        Usage {
            input_tokens: counts[0],
            cached_input_tokens: counts[1],
            cache_write_5m_tokens: counts[2],
            cache_write_1h_tokens: counts[3],
            audio_input_tokens: counts[4],
            output_tokens: counts[5],
            reasoning_tokens: counts[6],
            audio_output_tokens: counts[7],
            ..Usage::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_charge_is_the_exact_amount_rounded_once(
        row: prop::sample::Index,
        usage in usages(),
        per_usd in prop_oneof![Just(Amount::ONE), (1_000_000_000_u64..20_000_000_000_000).prop_map(Amount)],
    ) {
        let row = row.get(book().rows());
        match row.charge(&usage, per_usd) {
            Ok(PicoUsd(charged)) => {
                let exact = oracle(row, &usage, per_usd);
                let off = (BigRational::from_integer(BigInt::from(charged)) - exact).pow(2);
                let half = BigRational::new(BigInt::from(1), BigInt::from(4));
                prop_assert_ne!(off.cmp(&half), Ordering::Greater, "more than half a picodollar off");
            }
            Err(Unpriced::NoUsage) => prop_assert!(usage.input_tokens.is_none() && usage.output_tokens.is_none()),
            Err(Unpriced::NoPrice(_)) => prop_assert!(Unit::ALL.iter().any(|unit| row.price(*unit).is_none())),
            Err(Unpriced::TooLarge) => {
                let exact = oracle(row, &usage, per_usd);
                prop_assert!(exact > BigRational::from_integer(BigInt::from(i64::MAX)));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn no_instant_and_no_model_name_is_too_strange(second: i32, model in ".{0,40}") {
        let at = Timestamp::from_second(i64::from(second)).unwrap();
        for provider in ["openai", "google", "openrouter"] {
            if let Some(prices) = book().find("", [provider], &model, Date::MAX) {
                let call = PricedCall { at, input_tokens: 1, service_tier: "" };
                let _ = prices.charge(call, &tokens(1, 1));
            }
        }
    }
}
