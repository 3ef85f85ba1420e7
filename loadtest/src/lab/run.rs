//! Playing a scene: a queue of events in simulated time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use weir_routing::{
    Alias, AliasSpec, Attempt, DeploymentSpec, Failure, FailureKind, InFlight, Next, Plan,
    PriceSpec, Priors, Routes, RoutesSpec, RoutingFacts, RoutingView, SpecError, TargetSpec,
};

use crate::chance;
use crate::lab::feedback::{ALIAS, LabIngestor, TryEvent, deployment_name, micros, quantile};
use crate::lab::policy::{LabPolicy, Simple};
use crate::lab::scene::Scene;
use crate::lab::upstream::{CallOutcome, Upstream};

/// What clients would have seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub requests: u64,
    /// Requests that ended in an error.
    pub failed: u64,
    pub attempts: u64,
    /// From arrival to first token, retries included; sorted.
    pub ttft_us: Vec<u64>,
    /// First attempts per window and provider.
    pub shares: Vec<Vec<u32>>,
    /// All attempts per window and provider.
    pub loads: Vec<Vec<u32>>,
    /// (arrival, time to first token if any) of every request, in order of arrival.
    pub timeline: Vec<(u64, Option<u64>)>,
    pub cost_picousd: i128,
    pub tables: u64,
    /// (since the scene's begin, provider) of every stall that Weir called one.
    pub stalls: Vec<(u64, usize)>,
    /// Why Weir stopped trying, with counts.
    pub gave_up: BTreeMap<&'static str, u64>,
}

impl Figures {
    #[must_use]
    pub fn ttft_ms(&self, percent: usize) -> f64 {
        quantile(&self.ttft_us, percent).map_or(f64::NAN, |us| us / 1_000.0)
    }

    /// Attempts per request.
    #[must_use]
    pub fn amplification(&self) -> f64 {
        self.attempts as f64 / self.requests.max(1) as f64
    }

    /// Share of first attempts that one provider got, from window `from` on to before `to`.
    #[must_use]
    pub fn share(&self, upstream: usize, from: usize, to: usize) -> f64 {
        let windows = &self.shares[from.min(self.shares.len())..to.min(self.shares.len())];
        let all: u32 = windows.iter().flatten().sum();
        let own: u32 = windows.iter().map(|window| window[upstream]).sum();
        f64::from(own) / f64::from(all.max(1))
    }

    /// When a provider was first taken for a black hole, from a time on.
    #[must_use]
    pub fn stalled_after(&self, upstream: usize, from: Duration) -> Option<Duration> {
        let from_us = micros(from);
        let is_it = |(at_us, which): &&(u64, usize)| *which == upstream && *at_us >= from_us;
        let (at_us, _) = self.stalls.iter().find(is_it)?;
        Some(Duration::from_micros(at_us - from_us))
    }

    fn note_stalls(&mut self, plan: &mut Plan, now_us: u64) {
        let found = plan.take_stalled();
        // The lab's alias has its providers in their order.
        self.stalls
            .extend(found.iter().map(|upstream| (now_us - START_US, upstream)));
    }

    /// How much one provider's share swings between windows: standard deviation over mean.
    #[must_use]
    pub fn share_cv(&self, upstream: usize, from: usize, to: usize) -> f64 {
        let shares: Vec<f64> = (from..to).map(|w| self.share(upstream, w, w + 1)).collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / shares.len() as f64;
        variance.sqrt() / mean
    }
}

/// Plays a scene. Fails only if the scene's routes cannot be built.
pub fn run(scene: &Scene, policy: LabPolicy) -> Result<Figures, Vec<SpecError>> {
    let mut world = World::new(scene, policy)?;
    for (number, call) in scene.calls.iter().enumerate() {
        world.schedule(START_US + micros(call.at), What::Arrives(number));
    }
    for (number, change) in scene.changes.iter().enumerate() {
        world.schedule(START_US + micros(change.at), What::Changes(number));
    }
    if let Some(ingestor) = &world.ingestor {
        let first_us = START_US + ingestor.every_us();
        world.schedule(first_us, What::Refreshes);
    }
    while let Some(Reverse((now_us, _, what))) = world.events.pop() {
        world.now_us = now_us;
        world.happen(what);
    }
    world.figures.ttft_us.sort_unstable();
    Ok(world.figures)
}

const START_US: u64 = 1_700_000_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Changes(usize),
    Arrives(usize),
    /// A retry's pause is over.
    Tries(usize),
    /// The first token is late.
    Hedges(usize),
    FirstToken(usize),
    Completes(usize),
    Fails(usize),
    TimesOut(usize),
    Refreshes,
}

struct World<'a> {
    scene: &'a Scene,
    policy: LabPolicy,
    now_us: u64,
    /// By time, then by order of scheduling: equal times never depend on chance.
    events: BinaryHeap<Reverse<(u64, u64, What)>>,
    scheduled: u64,
    upstreams: Vec<Upstream>,
    gateways: Vec<LabGateway>,
    simple: Simple,
    requests: Vec<LabRequest>,
    flights: Vec<LabAttempt>,
    ingestor: Option<LabIngestor>,
    figures: Figures,
}

struct LabGateway {
    routes: Routes,
    priors: Priors,
}

impl LabGateway {
    fn view(&self) -> Option<(RoutingView<'_>, &Alias)> {
        let alias = self.routes.alias(ALIAS)?;
        Some((self.routes.view(&self.priors), alias))
    }
}

struct LabRequest {
    gateway: usize,
    arrived_us: u64,
    plan: Option<Plan>,
    next: Option<Attempt>,
    /// Flights without a first token: one, or two while hedged.
    waiting: Vec<usize>,
}

struct LabAttempt {
    request: usize,
    upstream: usize,
    started_us: u64,
    state: LabState,
    in_flight: Option<InFlight>,
    ttft_us: Option<u64>,
    /// Holds one of the provider's slots.
    served: bool,
    fate: CallOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LabState {
    Waiting,
    Answering,
    Over,
}

impl<'a> World<'a> {
    fn new(scene: &'a Scene, policy: LabPolicy) -> Result<Self, Vec<SpecError>> {
        let gateways = (0..scene.gateways.max(1))
            .map(|_| {
                let routes = Routes::build(&routes_spec(scene), None)?;
                Ok(LabGateway {
                    routes,
                    priors: Priors::neutral(),
                })
            })
            .collect::<Result<Vec<_>, Vec<SpecError>>>()?;
        Ok(Self {
            scene,
            policy,
            now_us: START_US,
            events: BinaryHeap::new(),
            scheduled: 0,
            upstreams: scene.upstreams.iter().copied().map(Upstream::new).collect(),
            gateways,
            simple: Simple::new(scene.upstreams.len(), scene.seed),
            requests: Vec::with_capacity(scene.calls.len()),
            flights: Vec::with_capacity(scene.calls.len()),
            ingestor: scene.feedback.clone().map(LabIngestor::new),
            figures: Figures::default(),
        })
    }

    fn schedule(&mut self, at_us: u64, what: What) {
        self.scheduled += 1;
        self.events.push(Reverse((at_us, self.scheduled, what)));
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Changes(number) => self.change(number),
            What::Arrives(number) => self.arrive(number),
            What::Tries(request) => self.try_next(request),
            What::Hedges(request) => self.hedge(request),
            What::FirstToken(flight) => self.first_token(flight),
            What::Completes(flight) => self.complete(flight),
            What::Fails(flight) => {
                if let CallOutcome::Failure { kind, .. } = self.flights[flight].fate {
                    self.fail(flight, kind);
                }
            }
            What::TimesOut(flight) => self.fail(flight, FailureKind::FirstTokenTimeout),
            What::Refreshes => self.refresh(),
        }
    }

    fn change(&mut self, number: usize) {
        let change = self.scene.changes[number];
        let upstream = &mut self.upstreams[change.upstream];
        upstream.behaviour = change.to;
        if let Some(price) = change.picousd_per_token {
            upstream.spec.picousd_per_token = price;
        }
    }

    fn arrive(&mut self, number: usize) {
        let gateway = number % self.gateways.len();
        self.figures.requests += 1;
        self.figures.timeline.push((self.now_us - START_US, None));
        let (mut plan, next) = match self.policy {
            LabPolicy::Weir => self.plan(number, gateway),
            _ => (None, None),
        };
        let mut hedge_after_us = None;
        if let Some(plan) = &mut plan {
            self.figures.note_stalls(plan, self.now_us);
            hedge_after_us = plan.hedge_after_us;
        }
        self.requests.push(LabRequest {
            gateway,
            arrived_us: self.now_us,
            plan,
            next,
            waiting: Vec::new(),
        });
        let upstream = match next {
            Some(this) => this.deployment.index(),
            None if self.policy == LabPolicy::Weir => {
                self.figures.failed += 1;
                return;
            }
            None => self.simple.choose(self.policy, number),
        };
        self.count(upstream, |figures| &mut figures.shares);
        if let Some(us) = hedge_after_us {
            self.schedule(self.now_us + us, What::Hedges(number));
        }
        self.try_next(number);
    }

    fn plan(&self, number: usize, gateway: usize) -> (Option<Plan>, Option<Attempt>) {
        let call = &self.scene.calls[number];
        let facts = RoutingFacts {
            input_tokens: call.input_tokens,
            ..RoutingFacts::default()
        };
        let Some((view, alias)) = self.gateways[gateway].view() else {
            return (None, None);
        };
        let seed = chance::mix(self.scene.seed, number as u64);
        let mut plan = view.plan(alias, &facts, self.now_us, seed);
        match plan.next(view, alias, None, self.now_us) {
            Next::Attempt(this) => (Some(plan), Some(this)),
            Next::GiveUp(_) => (Some(plan), None),
        }
    }

    /// Counts an attempt in its window.
    fn count(&mut self, upstream: usize, of: fn(&mut Figures) -> &mut Vec<Vec<u32>>) {
        let window = (self.now_us - START_US) / micros(self.scene.window).max(1);
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        let (windows, upstreams) = (of(&mut self.figures), self.upstreams.len());
        windows.resize_with(windows.len().max(window + 1), || vec![0; upstreams]);
        windows[window][upstream] += 1;
    }

    /// Sends the planned attempt.
    fn try_next(&mut self, request: usize) {
        let this = self.requests[request].next;
        let upstream = match this {
            Some(this) => this.deployment.index(),
            None => self.simple.choose(self.policy, request),
        };
        self.figures.attempts += 1;
        self.count(upstream, |figures| &mut figures.loads);
        self.simple.started(upstream);
        let in_flight = this.and_then(|this| self.start(request, &this));
        let flight = self.flights.len();
        self.flights.push(LabAttempt {
            request,
            upstream,
            started_us: self.now_us,
            state: LabState::Waiting,
            in_flight,
            ttft_us: None,
            served: false,
            fate: CallOutcome::Nothing,
        });
        self.requests[request].waiting.push(flight);
        let timeout_us = micros(self.scene.first_token_timeout);
        self.schedule(self.now_us + timeout_us, What::TimesOut(flight));
        self.serve_or_queue(flight);
    }

    fn hedge(&mut self, request: usize) {
        let this = &mut self.requests[request];
        let view = self.gateways[this.gateway].view();
        let (Some(plan), Some((view, alias))) = (&mut this.plan, view) else {
            return;
        };
        if this.waiting.is_empty() {
            return;
        }
        let hedge = plan.hedge(view, alias, self.now_us);
        self.figures.note_stalls(plan, self.now_us);
        if let Some(hedge) = hedge {
            this.next = Some(hedge);
            self.try_next(request);
        } else if let Some(after_us) = plan.hedge_after_us {
            let at_us = this.arrived_us + after_us;
            self.schedule(at_us.max(self.now_us), What::Hedges(request));
        }
    }

    fn start(&self, request: usize, this: &Attempt) -> Option<InFlight> {
        let request = &self.requests[request];
        let (view, alias) = self.gateways[request.gateway].view()?;
        Some(view.start(alias, request.plan.as_ref()?, this, self.now_us))
    }

    fn serve_or_queue(&mut self, flight: usize) {
        let this = &mut self.flights[flight];
        let upstream = &mut self.upstreams[this.upstream];
        let luck = chance::mix(self.scene.seed ^ this.upstream as u64, this.request as u64);
        this.fate = upstream.fate(&self.scene.calls[this.request], luck);
        match this.fate {
            CallOutcome::Answer { .. } if upstream.busy >= upstream.spec.slots => {
                upstream.queue.push_back(flight);
            }
            CallOutcome::Answer { ttft_us, .. } => {
                upstream.busy += 1;
                this.served = true;
                self.schedule(self.now_us + ttft_us, What::FirstToken(flight));
            }
            CallOutcome::Failure { after_us, .. } => {
                self.schedule(self.now_us + after_us, What::Fails(flight));
            }
            CallOutcome::Nothing => {}
        }
    }

    fn first_token(&mut self, flight: usize) {
        let now_us = self.now_us;
        let this = &mut self.flights[flight];
        if this.state != LabState::Waiting {
            return;
        }
        this.state = LabState::Answering;
        let ttft_us = now_us - this.started_us;
        this.ttft_us = Some(ttft_us);
        if let Some(in_flight) = &mut this.in_flight {
            in_flight.first_token(now_us);
        }
        let rest_us = match this.fate {
            CallOutcome::Answer { rest_us, .. } => rest_us,
            _ => 0,
        };
        let (request, upstream) = (this.request, this.upstream);
        self.simple.observed(upstream, ttft_us);
        let losers = std::mem::take(&mut self.requests[request].waiting);
        for loser in losers.into_iter().filter(|loser| *loser != flight) {
            if let Some(in_flight) = self.flights[loser].in_flight.take() {
                in_flight.lose(now_us);
            }
            self.end(loser);
        }
        let since_arrival_us = now_us - self.requests[request].arrived_us;
        self.figures.ttft_us.push(since_arrival_us);
        self.figures.timeline[request].1 = Some(since_arrival_us);
        self.schedule(now_us + rest_us, What::Completes(flight));
    }

    fn complete(&mut self, flight: usize) {
        let call = &self.scene.calls[self.flights[flight].request];
        if let Some(in_flight) = self.flights[flight].in_flight.take() {
            in_flight.succeed(call.output_tokens, self.now_us);
        }
        let upstream = self.flights[flight].upstream;
        self.figures.cost_picousd += i128::from(self.upstreams[upstream].cost_picousd(call));
        self.end(flight);
    }

    fn fail(&mut self, flight: usize, kind: FailureKind) {
        let this = &mut self.flights[flight];
        if this.state != LabState::Waiting {
            return;
        }
        let failure = Failure::new(kind);
        let (request, upstream) = (this.request, this.upstream);
        let taken_us = self.now_us - this.started_us;
        if let Some(in_flight) = this.in_flight.take() {
            in_flight.fail(&failure, self.now_us);
        }
        self.simple.observed(upstream, taken_us);
        self.end(flight);
        self.requests[request]
            .waiting
            .retain(|other| *other != flight);
        if self.requests[request].waiting.is_empty() {
            self.after(request, &failure);
        }
    }

    /// Frees the slot and counts the attempt, as its event would.
    fn end(&mut self, flight: usize) {
        let this = &mut self.flights[flight];
        this.state = LabState::Over;
        let upstream = &mut self.upstreams[this.upstream];
        upstream.busy -= usize::from(std::mem::take(&mut this.served));
        self.simple.ended(this.upstream);
        let call = &self.scene.calls[this.request];
        let plan = self.requests[this.request].plan.as_ref();
        if let Some(ingestor) = &mut self.ingestor {
            ingestor.count(TryEvent {
                at_us: self.now_us,
                upstream: this.upstream,
                input_tokens: call.input_tokens,
                output_tokens: call.output_tokens,
                ttft_us: this.ttft_us,
                cost_picousd: upstream.cost_picousd(call),
                table_version: plan.map_or(0, |plan| plan.table_version),
            });
        }
        let upstream = this.upstream;
        self.serve_queue(upstream);
    }

    fn serve_queue(&mut self, upstream: usize) {
        while self.upstreams[upstream].busy < self.upstreams[upstream].spec.slots {
            let Some(flight) = self.upstreams[upstream].queue.pop_front() else {
                return;
            };
            if self.flights[flight].state == LabState::Waiting {
                self.serve_or_queue(flight);
            }
        }
    }

    fn after(&mut self, request: usize, failure: &Failure) {
        let now_us = self.now_us;
        let this = &mut self.requests[request];
        let view = self.gateways[this.gateway].view();
        let next = match (&mut this.plan, view) {
            (Some(plan), Some((view, alias))) => {
                Some(plan.next(view, alias, Some(failure), now_us))
            }
            _ => None,
        };
        if let Some(Next::Attempt(again)) = next {
            this.next = Some(again);
            self.schedule(now_us + again.delay_us, What::Tries(request));
            return;
        }
        self.figures.failed += 1;
        if let Some(Next::GiveUp(reason)) = next {
            *self.figures.gave_up.entry(reason.as_str()).or_default() += 1;
        }
    }

    fn refresh(&mut self) {
        let Some(ingestor) = &mut self.ingestor else {
            return;
        };
        if !ingestor.is_there(self.now_us - START_US) {
            return;
        }
        let again_us = self.now_us + ingestor.every_us();
        if let Some(table) = ingestor.refresh(self.now_us) {
            self.figures.tables += 1;
            for gateway in &mut self.gateways {
                gateway.priors = Priors::adopt(&table, &gateway.routes);
            }
        }
        // The last event of the scene must not be a refresh that schedules the next one.
        if !self.events.is_empty() {
            self.schedule(again_us, What::Refreshes);
        }
    }
}

fn routes_spec(scene: &Scene) -> RoutesSpec {
    let deployments = scene
        .upstreams
        .iter()
        .enumerate()
        .map(|(number, upstream)| {
            let price = u64::try_from(upstream.picousd_per_token).unwrap_or(0);
            DeploymentSpec {
                name: deployment_name(number),
                price: Some(PriceSpec {
                    input_picousd: price,
                    output_picousd: 4 * price,
                }),
                ..DeploymentSpec::default()
            }
        })
        .collect();
    let targets = (0..scene.upstreams.len())
        .map(|deployment| TargetSpec {
            deployment,
            weight: 1.0,
            rank: 0,
        })
        .collect();
    let alias = AliasSpec {
        name: ALIAS.to_owned(),
        strategy: scene.strategy.clone(),
        targets,
        retry: scene.retry.clone(),
        ..AliasSpec::default()
    };
    RoutesSpec {
        deployments,
        aliases: vec![alias],
        ..RoutesSpec::default()
    }
}
