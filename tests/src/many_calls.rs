//! Any number of calls, straight into the tables, whose every figure is known by arithmetic: what call `n`
//! of a day is follows from `n` alone, here and in the statements that store it.

use anyhow::Result;
use weir_store::Store;

/// Name of the user of each day's first call.
pub const HOSTILE_USER: &str = "o'hara \\ \") OR 1=1 -- $team ${user} <b>&amp;,";
/// What each attempt costs whose answer nobody gets, in units of 0.0001 USD.
const WASTE: u64 = 5;

/// Calls of whole days.
#[derive(Clone, Copy, Debug)]
pub struct ManyCalls {
    /// Midnight (UTC) at which the last day ends, in seconds since 1970.
    pub end_s: u64,
    pub days: u64,
    pub per_day: u64,
}

/// One call of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number in the day.
    pub n: u64,
}

impl Call {
    #[must_use]
    pub const fn user(self) -> u64 {
        self.n * 7919 % 5000
    }

    #[must_use]
    pub const fn team(self) -> u64 {
        self.user() % 40
    }

    #[must_use]
    pub const fn model(self) -> u64 {
        self.n % 12
    }

    #[must_use]
    pub const fn is_failed(self) -> bool {
        self.n.is_multiple_of(20)
    }

    /// Refused by a limit, so that it was tried nowhere.
    #[must_use]
    pub const fn is_refused(self) -> bool {
        self.n % 40 == 1
    }

    #[must_use]
    pub const fn is_delivered(self) -> bool {
        !self.is_failed() && !self.is_refused()
    }

    /// Answered by a fallback, after a timeout.
    #[must_use]
    pub const fn is_retried(self) -> bool {
        self.n % 10 == 3
    }

    #[must_use]
    pub const fn is_unpriced(self) -> bool {
        self.is_delivered() && self.n % 25 == 7
    }

    /// In units of 0.0001 USD.
    #[must_use]
    pub const fn cost(self) -> u64 {
        if self.is_delivered() && !self.is_unpriced() {
            10 * (1 + self.n % 9)
        } else {
            0
        }
    }

    /// In units of 0.0001 USD.
    #[must_use]
    pub const fn waste(self) -> u64 {
        if self.is_retried() { WASTE } else { 0 }
    }

    #[must_use]
    pub const fn input_tokens(self) -> u64 {
        if self.is_delivered() {
            1000 + self.n % 100
        } else {
            0
        }
    }

    #[must_use]
    pub const fn is_cached(self) -> bool {
        self.is_delivered() && self.n % 4 == 2
    }

    #[must_use]
    pub const fn total_us(self) -> u64 {
        1_000_000 + 10_000 * (self.n % 300)
    }

    #[must_use]
    pub const fn ttft_us(self) -> Option<u64> {
        if self.is_delivered() {
            Some(100_000 + 1000 * (self.n % 200))
        } else {
            None
        }
    }

    /// Sent to the deployment with the lower probability.
    #[must_use]
    pub const fn is_explored(self) -> bool {
        self.n % 16 == 5
    }
}

impl ManyCalls {
    pub fn calls(self) -> impl Iterator<Item = Call> {
        (0..self.days).flat_map(move |_| self.calls_of_a_day())
    }

    pub fn calls_of_a_day(self) -> impl Iterator<Item = Call> {
        (0..self.per_day).map(|n| Call { n })
    }

    #[must_use]
    pub const fn begin_s(self) -> u64 {
        self.end_s - self.days * 86_400
    }

    /// Stores them.
    pub async fn fill(self, store: &Store) -> Result<()> {
        for day in 0..self.days {
            for statement in self.statements(day) {
                let mut answer = store.raw_query(&statement, "Null")?;
                while answer.next().await?.is_some() {}
            }
        }
        Ok(())
    }

    /// A day's requests, and its attempts: those whose answer was delivered or that were the last, and those
    /// before a fallback.
    fn statements(self, day: u64) -> [String; 3] {
        let common = self.common(day);
        let whose = "stream, seq, ts, request_id, organisation, team, project, user, key_id, environment, tier, \
                     customer, feature, tags, dialect, alias, streamed, strategy, table_version";
        let attempts = format!(
            "INSERT INTO attempts ({whose}, attempt, kind, cause, delay_us, deployment, provider, model, response_model, \
             error_kind, status, delivered, cost_usd, input_tokens, cached_input_tokens, output_tokens, usage_source, \
             price_version, ttft_us, total_us, propensity, provider_key) SELECT {whose}"
        );
        [
            format!(
                "INSERT INTO requests ({whose}, client_ip, user_agent, status, stage, error_kind, limit_verdict, provider, model, deployment, \
                 response_model, attempts, finish_reason, input_tokens, cached_input_tokens, output_tokens, \
                 reasoning_tokens, usage_source, cost_usd, waste_usd, unpriced_reason, price_version, queue_us, \
                 overhead_us, ttft_us, total_us, candidates, request_bytes, response_bytes) \
                 SELECT {whose}, address, \
                 concat('openai-python/', toString(n % 6)), multiIf(failed, 500, refused, 429, 200), \
                 if(refused, 'admission', if(failed, 'upstream', '')), multiIf(failed, 'server_error', refused, 'rate_limited', ''), \
                 if(refused, 'requests-of-team', ''), if(delivered, provider, ''), if(delivered, model, ''), \
                 if(delivered, deployment, ''), if(delivered, concat(model, '-2026'), ''), \
                 multiIf(refused, 0, retried, 2, 1), if(delivered, 'stop', ''), input_tokens, cached, output_tokens, \
                 if(delivered AND n % 2 = 0, 50, NULL), usage_source, cost, toDecimal128({WASTE} * retried, 12) / 10000, \
                 if(unpriced, 'the price book does not have the model', ''), if(delivered, price_version, ''), 10 + n % 20, \
                 60 + n % 100, if(delivered, 100000 + 1000 * (n % 200), NULL), 1000000 + 10000 * (n % 300), \
                 [(deployment, 0.5, chance), (other, 0.25, 1 - chance)], 4000, 1000 FROM ({common})"
            ),
            format!(
                "{attempts}, if(retried, 2, 1), if(retried, 'fallback', 'first'), if(retried, 'timeout', ''), \
                 if(retried, 2000, 0), deployment, provider, model, concat(model, '-2026'), if(failed, 'server_error', ''), \
                 if(failed, 500, 200), delivered, cost, input_tokens, cached, output_tokens, usage_source, price_version, \
                 if(delivered, 90000 + 1000 * (n % 200), NULL), 900000 + 10000 * (n % 300), chance, 'key 1' \
                 FROM ({common}) WHERE NOT refused"
            ),
            format!(
                "{attempts}, 1, 'first', '', 0, other, splitByChar('/', other)[1], splitByChar('/', other)[2], '', 'timeout', \
                 NULL, false, toDecimal128({WASTE}, 12) / 10000, 1000, NULL, 0, 'estimated', price_version, NULL, 100000, \
                 1 - chance, 'key 1' FROM ({common}) WHERE retried"
            ),
        ]
    }

    fn common(self, day: u64) -> String {
        let (begin_s, per_day) = (self.begin_s() + day * 86_400, self.per_day);
        let (first, book) = (day * per_day, if day < self.days / 2 { 1 } else { 2 });
        let is_last = day + 1 == self.days;
        let hostile = HOSTILE_USER.replace('\\', "\\\\").replace('\'', "\\'");
        format!(
            "SELECT number AS n, n * 7919 % 5000 AS user_number, n % 20 = 0 AS failed, n % 40 = 1 AS refused, \
             NOT failed AND NOT refused AS delivered, n % 10 = 3 AS retried, delivered AND n % 25 = 7 AS unpriced, \
             toUUID('018bcfe5-6800-7000-8000-00000000000' || toString(n % 8)) AS stream, 100 + 3 * ({first} + n) AS seq, \
             fromUnixTimestamp64Micro(toInt64({begin_s} * 1000000 + n * intDiv(86400000000, {per_day})), 'UTC') AS ts, \
             toUUID('018bcfe5-6800-7000-8000-' || leftPad(lower(hex({first} + n)), 12, '0')) AS request_id, \
             if(user_number % 40 < 30, 'acme', 'globex') AS organisation, concat('team-', toString(user_number % 40)) AS team, \
             concat('project-', toString(user_number % 120)) AS project, \
             if(user_number = 0, '{hostile}', concat('user-', toString(user_number))) AS user, \
             concat('key-', toString(user_number % 2000)) AS key_id, \
             if({is_last} AND user_number = 0, '10.9.9.9', concat('10.0.', toString(user_number % 12), '.', toString(user_number % 250))) AS address, \
             ['prod', 'staging', 'dev'][1 + (n % 10 >= 8) + (n % 10 = 9)] AS environment, \
             'paid' AS tier, if(n % 3 = 0, concat('customer-', toString(n % 60)), '') AS customer, \
             concat('feature-', toString(n % 30)) AS feature, map('run', toString(n % 50)) AS tags, 'openai.chat' AS dialect, \
             concat('alias-', toString(n % 8)) AS alias, n % 2 = 0 AS streamed, 'objective' AS strategy, toUInt64(1000 + {day}) AS table_version, \
             concat('model-', toString(n % 12)) AS model, concat('provider-', toString(n % 4)) AS provider, \
             concat(provider, '/', model) AS deployment, \
             concat('provider-', toString((n + 1) % 4), '/model-', toString((n + 1) % 12)) AS other, \
             if(delivered, 1000 + n % 100, NULL) AS input_tokens, if(delivered AND n % 4 = 2, 500, NULL) AS cached, \
             if(delivered, 200, NULL) AS output_tokens, \
             if(delivered, ['reported', 'drained', 'estimated'][1 + (n % 10 >= 7) + (n % 10 >= 8)], 'none') AS usage_source, \
             multiIf(unpriced, NULL, delivered, toDecimal128(10 * (1 + n % 9), 12) / 10000, 0) AS cost, \
             concat('genai-prices-{book}:', toString(n % 12)) AS price_version, if(n % 16 = 5, 0.25, 0.75) AS chance \
             FROM numbers({per_day})"
        )
    }
}
