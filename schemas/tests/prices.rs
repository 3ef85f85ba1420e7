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
use weir_schemas::prices::{
    Amount, Book, PricedCall, Prices, Row, Unit, Unpriced, billed_prices, charge_whole,
    providers_of,
};
use weir_schemas::{OtherModelUsage, PicoUsd, Usage};

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
        inference_geo: "",
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
    let platinum = luna.charge(at("platinum"), &usage).unwrap_err();
    assert_eq!(
        platinum.to_string(),
        "the price book has no prices of service tier \"platinum\""
    );
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
        Err(Unpriced::NoPrice(Unit::Input))
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
    let text = FIRST_HEAD.to_owned() + "\n" + &row("2026-01-01", "1") + &row("2026-03-01", "2");
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
    let read = |line: &str| {
        Book::read(&format!("{FIRST_HEAD}\n{line}\n"), "")
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
        error.starts_with("line 1: there is no column \"price\"; the columns are provider,model,"),
        "{error}"
    );
    let error = Book::read("provider,input\n", "").unwrap_err().to_string();
    assert_eq!(error, "line 1: the column \"model\" is missing");
}

/// The head of a book that was written before other meters came.
const FIRST_HEAD: &str = "provider,model,names,effective_from,effective_until,known_from,utc_from,utc_until,\
    over_input_tokens,service_tier,currency,input,cached_input,cache_write_5m,cache_write_1h,audio_input,output,\
    reasoning,audio_output,request,source";

#[test]
fn a_book_of_the_first_version_reads_with_the_names_of_its_rows() {
    let line = "openai,m,m|m-####,2026-01-01,,2026-01-02,,,1000,flex,USD,1,0.5,,,,2,,,0.1,https://example.com";
    let book = Book::read(&format!("{FIRST_HEAD}\n{line}\n"), "").unwrap();
    // As the version before named it, so that stored calls still point at their row.
    assert_eq!(
        book.rows()[0].version(),
        "openai/m@2026-01-01;known=2026-01-02;over=1000;tier=flex;ddc78a87"
    );
    let again = Book::read(&book.to_csv(), "").unwrap();
    assert_eq!(again.rows(), book.rows());
}

/// A row of these prices, by column.
fn row_of(prices: &[(&str, &str)]) -> Row {
    let names: Vec<&str> = prices.iter().map(|(name, _)| *name).collect();
    let fields: Vec<&str> = prices.iter().map(|(_, price)| *price).collect();
    let text = format!(
        "provider,model,names,known_from,currency,source,{}\np,m,m,2026-01-01,USD,s,{}\n",
        names.join(","),
        fields.join(",")
    );
    (*Book::read(&text, "").unwrap().rows()[0]).clone()
}

fn charged(row: &Row, usage: &Usage) -> Result<String, String> {
    let charged = row.charge(usage, "", Amount::ONE);
    charged
        .map(|cost| cost.to_string().trim_end_matches('0').to_owned())
        .map_err(|reason| reason.to_string())
}

/// Usage from counts by name, in thousands of tokens where it is tokens.
fn counts(counts: &[(&str, u64)]) -> Usage {
    let mut usage = Usage::default();
    for (name, count) in counts {
        *usage.count_mut(name).unwrap() = Some(*count);
    }
    usage
}

/// Prices by column, counts by name, and what comes of them.
type MeterCase = (
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, u64)],
    &'static str,
);

/// Which price a count takes: its own, or that of what it is a part of, or none.
#[test]
fn each_meter_has_its_price_or_that_of_its_whole() {
    const MILLION: u64 = 1_000_000;
    let cases: &[MeterCase] = &[
        (
            &[("input", "1"), ("image_input", "8")],
            &[
                ("input_tokens", 3 * MILLION),
                ("image_input_tokens", MILLION),
            ],
            "10.",
        ),
        (
            &[("input", "1")],
            &[("input_tokens", MILLION), ("image_input_tokens", MILLION)],
            "1.",
        ),
        (
            &[("input", "1"), ("video_input", "12")],
            &[("input_tokens", MILLION), ("video_input_tokens", MILLION)],
            "12.",
        ),
        (
            &[("output", "2"), ("image_output", "30")],
            &[
                ("output_tokens", 2 * MILLION),
                ("image_output_tokens", MILLION),
            ],
            "32.",
        ),
        (
            &[("output", "2"), ("video_output", "17.5")],
            &[("output_tokens", MILLION), ("video_output_tokens", MILLION)],
            "17.5",
        ),
        (
            &[("output", "8"), ("citation", "2"), ("reasoning", "3")],
            &[
                ("output_tokens", 6 * MILLION),
                ("citation_tokens", 2 * MILLION),
                ("reasoning_tokens", 3 * MILLION),
            ],
            "21.",
        ),
        // Cached audio and images: their own price, or the cached one, never two.
        (
            &[
                ("input", "4"),
                ("cached_input", "0.4"),
                ("audio_input", "32"),
                ("cached_audio_input", "0.5"),
            ],
            &[
                ("input_tokens", MILLION),
                ("cached_input_tokens", MILLION),
                ("audio_input_tokens", MILLION),
                ("cached_audio_input_tokens", MILLION),
            ],
            "0.5",
        ),
        (
            &[
                ("input", "4"),
                ("cached_input", "0.4"),
                ("audio_input", "32"),
            ],
            &[
                ("input_tokens", MILLION),
                ("cached_input_tokens", MILLION),
                ("audio_input_tokens", MILLION),
                ("cached_audio_input_tokens", MILLION),
            ],
            "0.4",
        ),
        (
            &[("input", "4"), ("audio_input", "32")],
            &[
                ("input_tokens", MILLION),
                ("cached_input_tokens", MILLION),
                ("audio_input_tokens", MILLION),
                ("cached_audio_input_tokens", MILLION),
            ],
            "32.",
        ),
        (
            &[
                ("input", "5"),
                ("cached_input", "1.25"),
                ("image_input", "8"),
                ("cached_image_input", "2"),
            ],
            &[
                ("input_tokens", 4 * MILLION),
                ("cached_input_tokens", 2 * MILLION),
                ("image_input_tokens", 2 * MILLION),
                ("cached_image_input_tokens", MILLION),
            ],
            "16.25",
        ),
        // How many were both was not said: as many as the whole leaves no room for.
        (
            &[
                ("input", "1"),
                ("cached_input", "0.1"),
                ("audio_input", "10"),
            ],
            &[
                ("input_tokens", MILLION),
                ("cached_input_tokens", 800_000),
                ("audio_input_tokens", 600_000),
            ],
            "2.08",
        ),
        // Lifetimes of the cache.
        (
            &[("input", "1"), ("cache_write_5m", "1.25")],
            &[
                ("input_tokens", MILLION),
                ("cache_write_30m_tokens", MILLION),
            ],
            "1.25",
        ),
        (
            &[("input", "1"), ("cache_write_5m", "1.25")],
            &[
                ("input_tokens", MILLION),
                ("cache_write_1h_tokens", MILLION),
            ],
            "the price book has no price for 1-hour cache writes",
        ),
        (
            &[("input", "1")],
            &[
                ("input_tokens", MILLION),
                ("cache_write_1h_tokens", MILLION),
            ],
            "1.",
        ),
        (
            &[("input", "1"), ("cache_write_5m", "1.25")],
            &[
                ("input_tokens", MILLION),
                ("cache_write_12h_tokens", MILLION),
            ],
            "the price book has no price for 12-hour cache writes",
        ),
        (
            &[("input", "1"), ("cache_write_12h", "3")],
            &[
                ("input_tokens", MILLION),
                ("cache_write_12h_tokens", MILLION),
            ],
            "3.",
        ),
        // Tools that run at the provider.
        (
            &[("input", "1"), ("web_search_per_1000", "10")],
            &[("input_tokens", MILLION), ("web_searches", 3)],
            "1.03",
        ),
        (
            &[("input", "1")],
            &[("input_tokens", MILLION), ("web_searches", 0)],
            "1.",
        ),
        (
            &[("input", "1")],
            &[("input_tokens", MILLION), ("web_searches", 1)],
            "the price book has no price for web searches",
        ),
        (
            &[("input", "1"), ("file_search_per_1000", "2.5")],
            &[("input_tokens", MILLION), ("file_searches", 2)],
            "1.005",
        ),
        (
            &[("input", "1")],
            &[("input_tokens", MILLION), ("code_executions", 2)],
            "the price book has no price for code executions",
        ),
        // Audio by its length.
        (
            &[("audio_input_per_hour", "0.36")],
            &[("audio_input_ms", 1_000)],
            "0.0001",
        ),
        (
            &[("audio_input_per_hour", "0.36")],
            &[("input_tokens", 0), ("output_tokens", 0)],
            "audio is billed by its duration, which was not reported",
        ),
        (
            &[("input", "1"), ("audio_input_per_hour", "3.6")],
            &[("input_tokens", MILLION), ("audio_input_ms", 3_600_000)],
            "4.6",
        ),
        (
            &[("input", "1"), ("audio_input_per_hour", "3.6")],
            &[("input_tokens", MILLION), ("audio_input_tokens", 5)],
            "audio is billed by its duration, which was not reported",
        ),
        (
            &[("input", "1")],
            &[("input_tokens", MILLION), ("audio_input_ms", 5)],
            "the price book has no price for audio by its duration",
        ),
        (
            &[("input", "1"), ("unmetered", "pages")],
            &[("input_tokens", MILLION)],
            "the model is billed by pages, which are not metered",
        ),
        // Parts that exceed the whole: no more than the whole is billed, and not the cheapest of it.
        (
            &[("output", "2"), ("audio_output", "20")],
            &[
                ("output_tokens", MILLION),
                ("reasoning_tokens", MILLION),
                ("audio_output_tokens", 500_000),
            ],
            "11.",
        ),
        // A whole of zero beside parts was not counted.
        (
            &[("input", "1"), ("cached_input", "0.5")],
            &[("input_tokens", 0), ("cached_input_tokens", MILLION)],
            "0.5",
        ),
    ];
    for (prices, usage, expected) in cases {
        let usage = counts(usage);
        let charged = charged(&row_of(prices), &usage);
        let said = charged.unwrap_or_else(|reason| reason);
        assert_eq!(said, *expected, "{prices:?} {usage:?}");
    }
}

#[test]
fn a_place_of_inference_multiplies_tokens_and_nothing_else() {
    let claude = prices("anthropic", "claude-opus-4-8");
    let usage = Usage {
        web_searches: Some(1),
        ..tokens(100_000, 10_000)
    };
    let at = |inference_geo| PricedCall {
        inference_geo,
        ..call("2026-11-30T00:00:00Z", 1)
    };
    // 0.5 + 0.25 for tokens, 0.01 for the search.
    assert_eq!(cost(&claude, at(""), &usage), "0.760000000000");
    assert_eq!(cost(&claude, at("global"), &usage), "0.760000000000");
    assert_eq!(cost(&claude, at("not_available"), &usage), "0.760000000000");
    assert_eq!(cost(&claude, at("us"), &usage), "0.835000000000");
    assert_eq!(
        claude.charge(at("eu"), &usage).unwrap_err().to_string(),
        "the price book has no price for a model that ran in \"eu\""
    );
    let older = prices("anthropic", "claude-opus-4-5");
    assert_eq!(
        older.charge(at("us"), &usage),
        Err(Unpriced::NoGeo("us".into()))
    );
}

#[test]
fn other_models_of_a_call_are_priced_by_their_own_rows() {
    let find = |model: &str| book().find("", ["anthropic"], model, Date::MAX);
    let own = find("claude-haiku-4-5").unwrap();
    let at = call("2026-11-30T00:00:00Z", 1);
    let usage = tokens(1_000_000, 0);
    let other = |model: &str| OtherModelUsage {
        model: model.to_owned(),
        usage: tokens(100_000, 10_000),
    };
    let charge = |others: &[OtherModelUsage]| charge_whole(Some(&own), at, &usage, others, find);
    let (cost, version) = charge(&[other("claude-opus-4-8")]).unwrap();
    assert_eq!(cost.to_string(), "1.750000000000");
    assert!(
        version.contains("claude-haiku-4-5@") && version.contains(" + anthropic/claude-opus-4-8@")
    );
    let idle = charge_whole(None, at, &tokens(0, 0), &[other("claude-opus-4-8")], find);
    assert_eq!(idle.unwrap().0.to_string(), "0.750000000000");
    assert_eq!(
        charge(&[other("opus-of-ours")]).unwrap_err().to_string(),
        "the call also used \"opus-of-ours\": the price book does not have the model"
    );
}

#[test]
fn openrouter_gives_some_models_away_and_repeats_tiers_of_others() {
    let free = prices("openrouter", "qwen/whatever-comes:free");
    let at = call("2026-11-30T00:00:00Z", 1);
    let (cost, version) = free.charge(at, &tokens(5_000, 50)).unwrap();
    assert_eq!(cost, PicoUsd(0));
    assert!(version.starts_with("openrouter/:free@"), "{version}");
    let searched = Usage {
        web_searches: Some(1),
        ..tokens(1, 1)
    };
    assert_eq!(
        free.charge(at, &searched),
        Err(Unpriced::NoPrice(Unit::WebSearch))
    );
    let usage = tokens(1_000, 10);
    let provisioned = PricedCall {
        service_tier: "provisioned",
        ..at
    };
    let claude = prices("openrouter", "anthropic/claude-haiku-4.5");
    assert_eq!(
        claude.charge(provisioned, &usage),
        claude.charge(at, &usage)
    );
    let google = prices("gemini", "gemini-2.5-flash");
    assert!(google.charge(provisioned, &usage).is_err());
}

#[test]
fn openrouters_calls_are_billed_by_the_model_that_answered() {
    let mut book = Book::built_in().unwrap();
    let text = "provider,model,names,known_from,currency,source,input\nmine,m/ours,m/ours,2026-01-01,USD,s,7\n";
    book.add_own(
        Book::read(text, "")
            .unwrap()
            .rows()
            .iter()
            .map(|row| Row::clone(row)),
    );
    let billed = |name: &str, asked: &str, answered: &str| {
        let find = |model: &str| book.find(name, ["openrouter"], model, Date::MAX);
        let own = find(asked);
        let answered = Some(answered).filter(|model| !model.is_empty());
        let prices = billed_prices(own.as_ref(), asked, answered, find)?;
        let row = prices.rows().next()?.0;
        Some(format!("{}/{}", row.provider, row.model))
    };
    let haiku = "anthropic/claude-haiku-4.5";
    for (asked, answered, expect) in [
        // Free as asked, and by another free model.
        ("qwen/q:free", "qwen/q:free", Some(":free")),
        ("qwen/q:free", "z-ai/g:free", Some(":free")),
        ("qwen/q:free", "", Some(":free")),
        // It fell back to a model that is paid for, by its own name or a dated one.
        ("qwen/q:free", haiku, Some(haiku)),
        (
            "qwen/q:free",
            "anthropic/claude-4.5-haiku-20251001",
            Some(haiku),
        ),
        // To one that nobody knows the price of: it is not free.
        ("qwen/q:free", "qwen/newest", None),
        ("openai/gpt-5-mini", haiku, Some(haiku)),
        (haiku, "openai/gpt-5-mini", Some("openai/gpt-5-mini")),
        // The same model in other words, and a variant with a price of its own.
        (haiku, "anthropic/claude-4.5-haiku-20251001", Some(haiku)),
        (haiku, "anthropic/claude-haiku-4.5-of-tomorrow", Some(haiku)),
        (
            "openai/gpt-4o:extended",
            "openai/gpt-4o",
            Some("openai/gpt-4o:extended"),
        ),
        (
            "openai/gpt-4o:extended",
            "openai/gpt-4o-2024-08-06",
            Some("openai/gpt-4o:extended"),
        ),
        // What has no price is what the answer says it is.
        ("openrouter/auto-of-tomorrow", haiku, Some(haiku)),
    ] {
        let expect = expect.map(|model| format!("openrouter/{model}"));
        assert_eq!(
            billed("router", asked, answered),
            expect,
            "{asked} {answered}"
        );
    }
    // Prices of one's own count for whatever answers, unless that one has others.
    assert_eq!(billed("mine", "m/ours", haiku).unwrap(), "mine/m/ours");
    let asked = |name: &str, asked: &str, answered: &str| {
        let find = |model: &str| book.find(name, ["openai"], model, Date::MAX);
        let own = find(asked);
        let prices = billed_prices(own.as_ref(), asked, Some(answered), find).unwrap();
        prices.rows().next().unwrap().0.model.clone()
    };
    // Elsewhere the one that was asked is billed.
    assert_eq!(asked("openai", "gpt-5-mini", "gpt-4o"), "gpt-5-mini");
}

#[test]
fn a_part_that_other_rows_price_dearer_does_not_take_the_price_of_the_whole() {
    let text = "provider,model,names,known_from,effective_from,currency,source,input,image_input\n\
        p,m,m,2026-01-01,,USD,s,1,8\np,m,m,2026-01-01,2026-02-01,USD,s,1,\n";
    let book = Book::read(text, "").unwrap();
    let prices = book.find("", ["p"], "m", Date::MAX).unwrap();
    let at = call("2026-03-01T00:00:00Z", 1);
    let usage = Usage {
        image_input_tokens: Some(1),
        ..tokens(10, 0)
    };
    assert_eq!(
        prices.charge(at, &usage),
        Err(Unpriced::NoPrice(Unit::ImageInput))
    );
    assert!(prices.charge(at, &tokens(10, 0)).is_ok());
}

/// The prices that a count may take, the first that there is.
const TAKES: [(&str, &[Unit]); 16] = {
    use Unit::{
        AudioInput, AudioOutput, CacheWrite5m, CacheWrite30m, CachedAudioInput, CachedImageInput,
        CachedInput, Citation, ImageInput, ImageOutput, Input, Output, Reasoning, VideoInput,
        VideoOutput,
    };
    [
        ("input", &[Input]),
        ("cached", &[CachedInput, Input]),
        ("write 5m", &[CacheWrite5m, Input]),
        ("write 30m", &[CacheWrite30m, CacheWrite5m, Input]),
        ("audio", &[AudioInput, Input]),
        (
            "cached audio",
            &[CachedAudioInput, CachedInput, AudioInput, Input],
        ),
        ("image", &[ImageInput, Input]),
        (
            "cached image",
            &[CachedImageInput, CachedInput, ImageInput, Input],
        ),
        ("video", &[VideoInput, Input]),
        ("output", &[Output]),
        ("reasoning", &[Reasoning, Output]),
        ("audio out", &[AudioOutput, Output]),
        ("image out", &[ImageOutput, Output]),
        ("video out", &[VideoOutput, Output]),
        ("citations", &[Citation, Output]),
        ("requests", &[]),
    ]
};

/// Tokens that do not overlap, by [`TAKES`].
type Disjoint = [u64; 15];

/// The same as a provider counts them: wholes with their parts.
fn nested(counts: Disjoint) -> Usage {
    let [
        input,
        cached,
        write_5m,
        write_30m,
        audio,
        cached_audio,
        image,
        cached_image,
        video,
        ..,
    ] = counts;
    let [
        ..,
        output,
        reasoning,
        audio_out,
        image_out,
        video_out,
        citations,
    ] = counts;
    Usage {
        input_tokens: Some(counts[..9].iter().sum()),
        cached_input_tokens: Some(cached + cached_audio + cached_image),
        cache_write_5m_tokens: Some(write_5m),
        cache_write_30m_tokens: Some(write_30m),
        audio_input_tokens: Some(audio + cached_audio),
        cached_audio_input_tokens: Some(cached_audio),
        image_input_tokens: Some(image + cached_image),
        cached_image_input_tokens: Some(cached_image),
        video_input_tokens: Some(video),
        output_tokens: Some(output + reasoning + audio_out + image_out + video_out + citations),
        reasoning_tokens: Some(reasoning),
        audio_output_tokens: Some(audio_out),
        image_output_tokens: Some(image_out),
        video_output_tokens: Some(video_out),
        citation_tokens: Some(citations),
        ..tokens(input, output)
    }
}

/// The same as [`Row::charge`], in fractions.
fn oracle(row: &Row, counts: Disjoint, per_usd: Amount) -> BigRational {
    let whole = |number: u64| BigRational::from_integer(BigInt::from(number));
    let mut total = whole(row.price(Unit::Request).unwrap_or_default().0);
    for (count, (_, takes)) in counts.into_iter().zip(TAKES) {
        let price = takes.iter().find_map(|unit| row.price(*unit));
        total += whole(count) * whole(price.unwrap_or_default().0) / whole(1_000_000);
    }
    total * whole(Amount::ONE.0) / whole(per_usd.0)
}

prop_compose! {
    /// Any counts at all, consistent or not.
    fn usages()(counts in proptest::collection::vec(proptest::option::of(0_u64..2_000), Usage::NAMES.len())) -> Usage {
        let mut usage = Usage::default();
        for (name, count) in Usage::NAMES.into_iter().zip(counts) {
            *usage.count_mut(name).unwrap() = count;
        }
        usage
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_charge_is_the_exact_amount_rounded_once(
        row: prop::sample::Index,
        counts in proptest::array::uniform15(0_u64..1_000_000_000),
        per_usd in prop_oneof![Just(Amount::ONE), (1_000_000_000_u64..20_000_000_000_000).prop_map(Amount)],
    ) {
        let row = row.get(book().rows());
        match row.charge(&nested(counts), "", per_usd) {
            Ok(PicoUsd(charged)) => {
                let exact = oracle(row, counts, per_usd);
                let off = (BigRational::from_integer(BigInt::from(charged)) - exact).pow(2);
                let half = BigRational::new(BigInt::from(1), BigInt::from(4));
                prop_assert_ne!(off.cmp(&half), Ordering::Greater, "more than half a picodollar off");
            }
            Err(Unpriced::NoPrice(_)) => {
                let lacks = row.price(Unit::Input).is_none() || row.price(Unit::Output).is_none();
                prop_assert!(lacks);
            }
            Err(Unpriced::TooLarge) => {
                let exact = oracle(row, counts, per_usd);
                prop_assert!(exact > BigRational::from_integer(BigInt::from(i64::MAX)));
            }
            Err(Unpriced::NoDuration) => prop_assert!(row.price(Unit::AudioInputHour).is_some()),
            Err(Unpriced::Unmetered(_)) => prop_assert!(!row.unmetered.is_empty()),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn no_more_tokens_are_billed_than_there_were(usage in usages(), row: prop::sample::Index) {
        let row = row.get(book().rows());
        let (Some(input @ 1..), Some(output @ 1..)) = (usage.input_tokens, usage.output_tokens) else {
            return Ok(());
        };
        let tokens = Usage {
            web_searches: None,
            file_searches: None,
            code_executions: None,
            audio_input_ms: None,
            ..usage
        };
        if let Ok(PicoUsd(charged)) = row.charge(&tokens, "", Amount::ONE) {
            let dearest = |units: &[Unit]| {
                let prices = units.iter().filter_map(|unit| row.price(*unit));
                prices.map(|price| u128::from(price.0)).max().unwrap_or_default()
            };
            let of_input = TAKES[..9].iter().flat_map(|(_, takes)| takes.to_vec());
            let mut of_input: Vec<Unit> = of_input.collect();
            of_input.extend([Unit::CacheWrite1h, Unit::CacheWrite12h]);
            let of_output: Vec<Unit> = TAKES[9..].iter().flat_map(|(_, takes)| takes.to_vec()).collect();
            let request = row.price(Unit::Request).unwrap_or_default().0;
            let most = u128::from(input) * dearest(&of_input) + u128::from(output) * dearest(&of_output);
            let most = most / 1_000_000 + u128::from(request) + 1;
            prop_assert!(u128::from(charged.unsigned_abs()) <= most);
        }
    }

    #[test]
    fn no_instant_and_no_model_name_is_too_strange(second: i32, model in ".{0,40}") {
        let at = Timestamp::from_second(i64::from(second)).unwrap();
        for provider in ["openai", "google", "openrouter"] {
            if let Some(prices) = book().find("", [provider], &model, Date::MAX) {
                let call = PricedCall { at, input_tokens: 1, service_tier: "", inference_geo: "" };
                let _ = prices.charge(call, &tokens(1, 1));
            }
        }
    }
}
