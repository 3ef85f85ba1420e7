//! Events of every kind, with whatever their types allow.

use rand::Rng;
use weir_eventlog::StreamWriter;
use weir_schemas::event::{
    AttemptFinished, Caller, Candidate, ControlChanged, Correction, DeploymentStateChanged, Event,
    OtherModel, PayloadCaptured, RequestFinished, RoutingTableAdopted, Tags,
};
use weir_schemas::{Count, PicoUsd, RequestId, Salt, Usage};

use super::events::born_us;

/// Appends one event.
pub(super) fn append_any(writer: &StreamWriter, random: &mut impl Rng) {
    let long = "é\u{0}\t'".repeat(random.random_range(0..60));
    let texts = ["", "a", "gpt-5", "naïve “text”", "\n\\\"{}", &long];
    let mut any = Any {
        ts_us: born_us(writer.id()) + random.random_range(0..1_000_000),
        texts: &texts,
        random,
    };
    let event = match any.random.random_range(0..7) {
        0 => Event::RequestFinished(Box::new(any.request())),
        1 => Event::AttemptFinished(Box::new(any.attempt())),
        2 => Event::ControlChanged(any.control_change()),
        3 => Event::DeploymentStateChanged(any.deployment_state()),
        4 => Event::RoutingTableAdopted(any.routing_table()),
        5 => Event::Correction(any.correction()),
        _ => Event::PayloadCaptured(Box::new(any.payload())),
    };
    assert_eq!(writer.append(&[event]).unwrap().dropped, 0);
}

struct Any<'t, 'r, R> {
    ts_us: u64,
    texts: &'t [&'t str],
    random: &'r mut R,
}

impl<'t, R: Rng> Any<'t, '_, R> {
    fn text(&mut self) -> &'t str {
        self.texts[self.random.random_range(0..self.texts.len())]
    }

    fn optional(&mut self) -> Option<&'t str> {
        self.random.random::<bool>().then(|| self.text())
    }

    /// As much as Avro holds.
    fn number(&mut self) -> Count {
        self.any_number().into()
    }

    fn any_number(&mut self) -> u64 {
        const EXTREMES: [u64; 4] = [0, 1, 1 << 32, i64::MAX as u64];
        match self.random.random_range(0..8) {
            extreme @ 0..4 => EXTREMES[extreme],
            _ => self.random.random_range(0..1_000_000),
        }
    }

    fn optional_number(&mut self) -> Option<Count> {
        self.random.random::<bool>().then(|| self.number())
    }

    fn small(&mut self) -> u16 {
        [0, 200, u16::MAX][self.random.random_range(0..3)]
    }

    fn float(&mut self) -> f64 {
        let any = self.random.random();
        [0.0, -0.0, 1.0, 1e300, 1e-300, f64::INFINITY, any][self.random.random_range(0..7)]
    }

    fn money(&mut self) -> Option<PicoUsd> {
        [None, Some(0), Some(7), Some(i64::MAX), Some(i64::MIN)][self.random.random_range(0..5)]
            .map(PicoUsd)
    }

    fn id(&mut self) -> RequestId {
        RequestId::from_bytes(self.random.random())
    }

    fn usage(&mut self) -> Usage {
        let mut usage = Usage::default();
        for name in Usage::NAMES {
            *usage.count_mut(name).unwrap() = self.optional_number().map(Count::get);
        }
        usage
    }

    fn caller(&mut self) -> Caller<'t> {
        let tags = self.random.random_range(0..4);
        Caller {
            organisation: self.optional(),
            team: self.optional(),
            project: self.optional(),
            user: self.optional(),
            key_id: self.optional(),
            environment: self.optional(),
            tier: self.optional(),
            customer: self.optional(),
            feature: self.optional(),
            tags: Tags((0..tags).map(|_| (self.text(), self.text())).collect()),
        }
    }

    fn other_models(&mut self) -> Vec<OtherModel<'t>> {
        let models = self.random.random_range(0..4);
        let other = |_| OtherModel {
            model: self.text(),
            usage: self.usage(),
        };
        (0..models).map(other).collect()
    }

    fn candidates(&mut self) -> Vec<Candidate<'t>> {
        let candidates = self.random.random_range(0..4);
        let candidate = |_| Candidate {
            target: self.text(),
            score: self.random.random::<bool>().then(|| self.float()),
            propensity: self.float(),
        };
        (0..candidates).map(candidate).collect()
    }

    fn request(&mut self) -> RequestFinished<'t> {
        RequestFinished {
            ts_us: self.ts_us.into(),
            request_id: self.id(),
            client_request_id: self.optional(),
            trace_id: self.optional(),
            caller: self.caller(),
            client_ip: self.optional(),
            user_agent: self.optional(),
            dialect: self.text(),
            alias: self.optional(),
            streamed: self.random.random(),
            request_bytes: self.number(),
            max_output_tokens: self.optional_number(),
            status: self.small(),
            stage: self.optional(),
            error_kind: self.optional(),
            error_message: self.optional(),
            provider: self.optional(),
            deployment: self.optional(),
            model: self.optional(),
            response_model: self.optional(),
            region: self.optional(),
            attempts: self.small(),
            finish_reason: self.optional(),
            response_bytes: self.number(),
            usage: self.usage(),
            usage_source: self.text(),
            cost_pico_usd: self.money(),
            waste_pico_usd: self.money(),
            price_version: self.optional(),
            queue_us: self.number(),
            overhead_us: self.number(),
            ttft_us: self.optional_number(),
            total_us: self.number(),
            strategy: self.optional(),
            table_version: self.optional_number(),
            route_seed: self.optional_number(),
            candidates: self.candidates(),
            cache_verdict: self.optional(),
            guard_verdict: self.optional(),
            limit_verdict: self.optional(),
            service_tier: self.optional(),
            last_resort: self.optional(),
            inference_geo: self.optional(),
            other_models: self.other_models(),
            unpriced_reason: self.optional(),
        }
    }

    fn attempt(&mut self) -> AttemptFinished<'t> {
        AttemptFinished {
            ts_us: self.ts_us.into(),
            request_id: self.id(),
            attempt: self.small(),
            kind: self.text(),
            cause: self.optional(),
            delay_us: self.number(),
            caller: self.caller(),
            dialect: self.text(),
            alias: self.optional(),
            streamed: self.random.random(),
            provider: self.text(),
            deployment: self.text(),
            model: self.text(),
            response_model: self.optional(),
            region: self.optional(),
            provider_key: self.optional(),
            status: self.random.random::<bool>().then(|| self.small()),
            error_kind: self.optional(),
            error_message: self.optional(),
            retry_after_us: self.optional_number(),
            delivered: self.random.random(),
            upstream_request_id: self.optional(),
            finish_reason: self.optional(),
            connection_reused: self.random.random(),
            request_bytes: self.number(),
            response_bytes: self.number(),
            usage: self.usage(),
            usage_source: self.text(),
            cost_pico_usd: self.money(),
            price_version: self.optional(),
            connect_us: self.optional_number(),
            headers_us: self.optional_number(),
            ttft_us: self.optional_number(),
            total_us: self.number(),
            strategy: self.optional(),
            table_version: self.optional_number(),
            propensity: self.random.random::<bool>().then(|| self.float()),
            service_tier: self.optional(),
            inference_geo: self.optional(),
            other_models: self.other_models(),
            unpriced_reason: self.optional(),
        }
    }

    fn control_change(&mut self) -> ControlChanged<'t> {
        ControlChanged {
            ts_us: self.ts_us.into(),
            change_id: self.id(),
            actor: self.text(),
            action: self.text(),
            object_kind: self.text(),
            object_id: self.text(),
            before: self.optional(),
            after: self.optional(),
        }
    }

    fn deployment_state(&mut self) -> DeploymentStateChanged<'t> {
        DeploymentStateChanged {
            ts_us: self.ts_us.into(),
            deployment: self.text(),
            provider: self.text(),
            model: self.text(),
            provider_key: self.optional(),
            state: self.text(),
            cause: self.optional(),
            until_us: self
                .random
                .random::<bool>()
                .then_some((self.ts_us + 1).into()),
        }
    }

    fn routing_table(&mut self) -> RoutingTableAdopted<'t> {
        RoutingTableAdopted {
            ts_us: self.ts_us.into(),
            version: self.number(),
            made_at_us: (self.ts_us + 1).into(),
            from_us: (self.ts_us + 2).into(),
            to_us: (self.ts_us + 3).into(),
            origin: self.text(),
            routing_table: self.text(),
        }
    }

    fn correction(&mut self) -> Correction<'t> {
        Correction {
            ts_us: self.ts_us.into(),
            request_id: self.id(),
            attempt: self.small(),
            attempt_ts_us: self.ts_us.into(),
            delivered: self.random.random(),
            cost_before_pico_usd: self.money(),
            cost_pico_usd: self.money(),
            price_version_before: self.optional(),
            price_version: self.optional(),
            actor: self.text(),
            reason: self.text(),
            unpriced_reason: self.optional(),
        }
    }

    fn payload(&mut self) -> PayloadCaptured<'t> {
        let detectors = self.random.random_range(0..3);
        PayloadCaptured {
            ts_us: self.ts_us.into(),
            request_id: self.id(),
            caller: self.caller(),
            dialect: self.text(),
            alias: self.optional(),
            streamed: self.random.random(),
            status: self.small(),
            capture: self.text(),
            share: self.float(),
            request_bytes: self.number(),
            answer_bytes: self.number(),
            request: self.optional(),
            answer: self.optional(),
            request_omitted: self.optional(),
            answer_omitted: self.optional(),
            request_truncated: self.random.random(),
            answer_truncated: self.random.random(),
            redactions: self.number(),
            detectors: (0..detectors).map(|_| self.text()).collect(),
            salt: Salt::from_bytes(self.random.random()),
        }
    }
}
