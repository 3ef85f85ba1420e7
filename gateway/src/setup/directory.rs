//! Providers and aliases as requests run on them: names resolved, addresses parsed, keys ready.
//!
//! A directory is built whole from the configuration and never changes. A reload puts another one
//! in its place; requests under way finish with the one they began with.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri};
use jiff::Timestamp;
use jiff::civil::Date;
use memchr::memmem;
use weir_dialects::{Generation, ModelConfig, Unsupported, UpstreamErrorFacts, Vendor, vendors};
use weir_limits::ProviderLimits;
use weir_routing::{
    Alias, AliasSpec, BreakerSpec, DeploymentId, DeploymentSpec, HealthSnapshot, PriceSpec, Routes,
    RoutesSpec, ShadowSpec, SpecError, TargetSet, TargetSpec,
};
use weir_schemas::prices::{
    Book, Ceiling, PricedCall, Prices, Unpriced, billed_prices, charge_whole,
};
use weir_schemas::{OtherModelUsage, PicoUsd, Usage};

use crate::caps::NAMES_SHOWN_MAX;
use crate::setup::config::{AliasConfig, ProviderConfig, StickyConfig, TimeoutConfig};
use crate::setup::problem::ConfigProblem;
use crate::setup::provider_keys::{AuthHeader, ProviderKey, ProviderKeys};
use crate::upstream::{Connection, Endpoint, Reach};
use weir_governance::clock::Moment;

/// What is shorter is no secret, and would be found in any text.
const REDACTED_BYTES_MIN: usize = 4;
/// Shorter ones are left in the head of an answer, whose values are mostly numbers and common words.
const REDACTED_IN_HEAD_BYTES_MIN: usize = 8;
/// What stands in the place of a key.
const REDACTED: &str = "[redacted]";

/// All providers and aliases of one configuration.
#[derive(Debug)]
pub struct Directory {
    routes: Routes,
    /// What requests need to know of an alias beyond its routes, by the alias's position.
    habits: Vec<Habits>,
    /// By [`DeploymentId`].
    deployments: Vec<Arc<Deployment>>,
    of_teams: OfTeams,
    /// Names of the keys of each provider.
    key_names: HashMap<String, Vec<String>>,
    /// Deployments whose models neither the build nor the configuration knows.
    unknown_models: BTreeMap<String, String>,
}

/// What stands in for a deployment when a team calls with the key of that label.
type OfTeams = HashMap<(DeploymentId, String), DeploymentId>;

/// A team brings a key of a provider that the gateway does not have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoSuchKey<'a> {
    pub(crate) provider: &'a str,
    pub(crate) label: &'a str,
}

/// Which facts of a request an alias's strategy looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) sticky: StickyConfig,
    pub(crate) prefix_affinity: bool,
}

/// One model at one provider, called with one key.
#[derive(Debug)]
pub(crate) struct Deployment {
    /// `provider/model`, with `#label` behind it unless it is called with the provider's first key.
    pub(crate) name: String,
    pub(crate) model: String,
    /// What the model takes.
    pub(crate) generation: Generation,
    pub(crate) provider: Arc<Provider>,
    /// What its calls are charged by.
    pub(crate) prices: Option<Prices>,
    /// The dearest of them.
    pub(crate) ceiling: Result<Ceiling, Unpriced>,
    /// Where prices of other names are looked up.
    book: Arc<Book>,
    /// Header that shows the provider's key.
    pub(crate) auth: Option<AuthHeader>,
    /// Which of the provider's keys it is, for the events.
    pub(crate) key_name: Option<String>,
    /// What is known of the provider's limits for this key and model.
    pub(crate) limits: Arc<ProviderLimits>,
    /// Its name, for the response.
    pub(crate) header: HeaderValue,
}

/// A place that answers model calls.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) region: Option<String>,
    /// Where the price book is looked into.
    price_providers: Vec<String>,
    pub(crate) vendor: &'static Vendor,
    pub(crate) endpoint: Endpoint,
    /// Value of the `host` header.
    pub(crate) authority: HeaderValue,
    /// What stands before the API's own paths, without a slash at its end.
    pub(crate) base_path: String,
    pub(crate) timeouts: TimeoutConfig,
    pub(crate) unsupported: Unsupported,
    pub(crate) api_version: Option<String>,
}

/// A host that a deployment calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    pub host: String,
    pub port: u16,
    /// Proxy through which it is called; the firewall sees only that.
    pub proxy: Option<(String, u16)>,
}

/// Where requests to a provider go.
pub fn egress(config: &ProviderConfig) -> Result<Egress, ConfigProblem> {
    let provider = build_provider(config).map_err(|problem| ConfigProblem {
        path: format!("provider \"{}\": {}", config.name, problem.path),
        ..problem
    })?;
    Ok(Egress::of(&provider.endpoint))
}

/// Connects to a provider as its requests do, through its proxy and with TLS. Sends nothing.
pub async fn reach(config: &ProviderConfig, timeout_ms: u64) -> Result<(), String> {
    let provider = build_provider(config).map_err(|problem| problem.message)?;
    let connected = Connection::open(&provider.endpoint, timeout_ms).await;
    connected.map(drop).map_err(|error| error.to_string())
}

impl Egress {
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        let proxy = match &endpoint.reach {
            Reach::Direct { .. } => None,
            Reach::Proxy(proxy) => Some((proxy.host.clone(), proxy.port)),
        };
        Self {
            host: endpoint.host.clone(),
            port: endpoint.port,
            proxy,
        }
    }
}

/// What usage may cost at an alias's targets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    /// The most of those that have a price; `None` if none has one.
    pub(crate) dearest: Option<PicoUsd>,
    /// Positions of those that have none, which they are, and why.
    pub(crate) unpriced: TargetSet,
    pub(crate) unpriced_at: Vec<(Arc<Deployment>, Unpriced)>,
}

/// What is known of a call that is charged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChargedCall<'a> {
    pub(crate) usage: &'a Usage,
    /// Model that the provider says it used.
    pub(crate) response_model: Option<&'a str>,
    /// Empty if the provider named none.
    pub(crate) service_tier: &'a str,
    pub(crate) inference_geo: &'a str,
    pub(crate) other_models: &'a [OtherModelUsage],
}

impl<'a> ChargedCall<'a> {
    /// One of which nothing but the usage is known.
    pub(crate) const fn of(usage: &'a Usage) -> Self {
        Self {
            usage,
            response_model: None,
            service_tier: "",
            inference_geo: "",
            other_models: &[],
        }
    }
}

impl Deployment {
    /// What a call cost here, and the version of the row of the price book that says so.
    pub(crate) fn charge(
        &self,
        call: &ChargedCall<'_>,
        at_us: u64,
    ) -> Result<(PicoUsd, Arc<str>), Unpriced> {
        let at_us = i64::try_from(at_us).unwrap_or(i64::MAX);
        let priced = PricedCall {
            at: Timestamp::from_microsecond(at_us).unwrap_or(Timestamp::MAX),
            input_tokens: call.usage.input_tokens.unwrap_or(0),
            service_tier: call.service_tier,
            inference_geo: call.inference_geo,
        };
        let find = |model: &str| self.provider.prices(&self.book, model);
        let own = billed_prices(self.prices.as_ref(), &self.model, call.response_model, find);
        charge_whole(own.as_deref(), priced, call.usage, call.other_models, find)
    }

    /// The key as its provider might repeat it.
    fn key(&self) -> Option<&str> {
        let (_, value) = self.auth.as_ref()?;
        let key = value.to_str().ok()?.rsplit(' ').next()?;
        (key.len() >= REDACTED_BYTES_MIN).then_some(key)
    }

    /// Takes this deployment's key out of what its provider said: some repeat it.
    pub(crate) fn redact(&self, said: &mut UpstreamErrorFacts) {
        if let Some(key) = self.key() {
            said.redact(key);
        }
    }

    /// The same for an answer in which the provider speaks of an error.
    pub(crate) fn redact_bytes(&self, answer: Bytes) -> Bytes {
        let redacted = self.key().and_then(|key| without(key, &answer));
        redacted.map_or(answer, Bytes::from)
    }

    /// The same for a name in an answer: a model's, a tier's, a region's.
    pub(crate) fn redact_text(&self, text: &mut String) {
        if let Some(key) = self.key()
            && text.len() >= key.len()
            && text.contains(key)
        {
            *text = text.replace(key, REDACTED);
        }
    }

    /// The same for the head of an answer.
    pub(crate) fn redact_headers(&self, headers: &mut HeaderMap) {
        let key = self.key();
        let Some(key) = key.filter(|key| key.len() >= REDACTED_IN_HEAD_BYTES_MIN) else {
            return;
        };
        // Hardly any value is as long as a key.
        let long = |value: &&mut HeaderValue| value.len() >= key.len();
        for value in headers.values_mut().filter(long) {
            if let Some(redacted) = without(key, value.as_bytes()) {
                *value = HeaderValue::from_bytes(&redacted)
                    .unwrap_or(HeaderValue::from_static(REDACTED));
            }
        }
    }
}

/// A text without a key; `None` if the key is not in it.
fn without(key: &str, text: &[u8]) -> Option<Vec<u8>> {
    let mut rest = text;
    let mut redacted = Vec::new();
    while let Some(at) = memmem::find(rest, key.as_bytes()) {
        redacted.extend_from_slice(&rest[..at]);
        redacted.extend_from_slice(REDACTED.as_bytes());
        rest = &rest[at + key.len()..];
    }
    (!redacted.is_empty()).then(|| [&redacted, rest].concat())
}

impl Provider {
    /// The prices of a model, with all that is known of them now.
    fn prices(&self, book: &Book, model: &str) -> Option<Prices> {
        let places = self.price_providers.iter().map(String::as_str);
        book.find(&self.name, places, model, Date::MAX)
    }
}

impl Directory {
    /// Checks everything, and reports every problem at once. Deployments that were there `before`
    /// keep what is known about their health.
    pub fn build(
        providers: &[ProviderConfig],
        aliases: &[AliasConfig],
        models: &[ModelConfig],
        breaker: BreakerSpec,
        book: &Book,
        before: Option<&Self>,
    ) -> Result<Self, Vec<ConfigProblem>> {
        let mut problems = Vec::new();
        let providers = build_providers(providers, &mut problems);
        check_models(models, &providers, &mut problems);
        let mut builder = DirectoryBuilder {
            providers: &providers,
            models,
            unknown_models: BTreeMap::new(),
            book: Arc::new(book.clone()),
            before: before.map(Self::by_name).unwrap_or_default(),
            specs: Vec::new(),
            deployments: Vec::new(),
            of_teams: OfTeams::new(),
            problems,
        };
        let specs = aliases.iter().enumerate();
        let specs = specs.map(|(index, alias)| builder.alias(&format!("alias[{index}]"), alias));
        let spec = RoutesSpec {
            aliases: specs.collect(),
            deployments: builder.specs,
            breaker,
        };
        if !builder.problems.is_empty() {
            return Err(builder.problems);
        }
        let problem = |error: SpecError| {
            let alias = error.alias.as_ref();
            let index = alias.and_then(|name| aliases.iter().position(|it| it.name == *name));
            // What is wrong with no alias in particular is wrong with the breaker.
            let path = index.map_or_else(|| "routing".into(), |index| format!("alias[{index}]"));
            ConfigProblem::new(path, error.problem)
        };
        let routes = Routes::build(&spec, before.map(|before| &before.routes))
            .map_err(|errors| errors.into_iter().map(problem).collect::<Vec<_>>())?;
        let key_names = providers.iter().filter_map(|(name, built)| {
            let (_, keys) = built.as_ref()?;
            Some((name.clone(), keys.names(name).collect()))
        });
        let habits = aliases.iter().map(|alias| Habits {
            sticky: alias.sticky,
            prefix_affinity: alias.prefix_affinity,
        });
        Ok(Self {
            routes,
            habits: habits.collect(),
            deployments: builder.deployments,
            of_teams: builder.of_teams,
            key_names: key_names.collect(),
            unknown_models: builder.unknown_models,
        })
    }

    /// Deployments (`provider/model`) whose models neither the build nor the configuration knows, each
    /// with what that means.
    #[must_use]
    pub const fn unknown_models(&self) -> &BTreeMap<String, String> {
        &self.unknown_models
    }

    /// Says which models are unknown, but for those that were said `before`.
    pub(crate) fn warn_of_unknown_models(&self, before: Option<&Self>) {
        for (deployment, meaning) in &self.unknown_models {
            if before.is_none_or(|before| !before.unknown_models.contains_key(deployment)) {
                tracing::warn!(deployment, "{meaning}; a [[model]] says what it is like");
            }
        }
    }

    /// What a provider's keys are called, those of teams too.
    #[must_use]
    pub fn key_names(&self, provider: &str) -> &[String] {
        self.key_names.get(provider).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    fn by_name(&self) -> HashMap<&str, &Deployment> {
        let deployments = self.deployments.iter();
        deployments.map(|it| (&*it.name, &**it)).collect()
    }

    pub(crate) fn alias(&self, name: &str) -> Option<&Alias> {
        self.routes.alias(name)
    }

    pub(crate) fn habits(&self, alias: &Alias) -> Habits {
        self.habits[alias.index]
    }

    pub(crate) fn deployment(&self, id: DeploymentId) -> &Arc<Deployment> {
        &self.deployments[id.index()]
    }

    /// An alias as a team with keys of its own sees it: what is called with one of them is called
    /// with it alone. `None` for a team that has none here.
    pub(crate) fn with_keys_of<'k>(
        &self,
        alias: &Alias,
        keys: &'k BTreeMap<String, String>,
    ) -> Result<Option<Alias>, NoSuchKey<'k>> {
        if keys.is_empty() {
            return Ok(None);
        }
        for target in &alias.targets {
            let provider = &self.deployment(target.deployment).provider.name;
            let Some((provider, label)) = keys.get_key_value(provider) else {
                continue;
            };
            let place = (target.deployment, label.clone());
            if !self.of_teams.contains_key(&place) {
                return Err(NoSuchKey { provider, label });
            }
        }
        Ok(Some(alias.with_deployments(|id| {
            let label = keys.get(&self.deployment(id).provider.name)?;
            self.of_teams.get(&(id, label.clone())).copied()
        })))
    }

    /// Where a provider's key is another one than before, what was held against the old one is
    /// looked at again.
    pub(crate) fn greet_new_keys(&self, before: &Self, now_us: u64) {
        let known = before.by_name();
        for id in self.routes.ids() {
            let deployment = self.deployment(id);
            let same = known.get(&*deployment.name);
            if same.is_some_and(|same| same.auth != deployment.auth) {
                let key = deployment.key_name.as_deref().unwrap_or_default();
                tracing::info!(
                    key,
                    deployment = deployment.name,
                    "a provider's key has changed"
                );
                self.routes.half_open(id, now_us);
            }
        }
    }

    /// What is known of each deployment's health.
    pub(crate) fn healths(
        &self,
        now_us: u64,
    ) -> impl Iterator<Item = (&Deployment, HealthSnapshot)> {
        let ids = self.routes.ids();
        ids.map(move |id| (&**self.deployment(id), self.routes.health(id, now_us)))
    }

    /// What usage may cost at an alias's targets.
    pub(crate) fn cost(&self, alias: &Alias, usage: &Usage, now_us: u64) -> Cost {
        let mut cost = Cost::default();
        for (number, target) in alias.targets.iter().enumerate() {
            let deployment = self.deployment(target.deployment);
            match deployment.charge(&ChargedCall::of(usage), now_us) {
                Ok((here, _)) => cost.dearest = cost.dearest.max(Some(here)),
                // It has a price, and no budget affords it.
                Err(Unpriced::TooLarge) => cost.dearest = Some(PicoUsd(i64::MAX)),
                Err(reason) => {
                    cost.unpriced.insert(number);
                    cost.unpriced_at.push((deployment.clone(), reason));
                }
            }
        }
        cost
    }

    /// The aliases, in the order of the configuration.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.routes.aliases().iter().map(|alias| &*alias.name)
    }
}

/// A provider that is ready, with its keys. Absent if it could not be built.
type BuiltProvider = Option<(Arc<Provider>, ProviderKeys)>;

fn build_providers(
    configs: &[ProviderConfig],
    problems: &mut Vec<ConfigProblem>,
) -> HashMap<String, BuiltProvider> {
    let mut built = HashMap::new();
    for (index, config) in configs.iter().enumerate() {
        let path = format!("provider[{index}]");
        if built.contains_key(&config.name) {
            let message = format!("there are two providers named \"{}\"", config.name);
            problems.push(ConfigProblem::new("name", message).within(&path));
            continue;
        }
        let provider = build_with_keys(config).map_err(|found| {
            problems.extend(found.into_iter().map(|problem| problem.within(&path)));
        });
        built.insert(config.name.clone(), provider.ok());
    }
    built
}

/// The errors name settings within the provider.
fn build_with_keys(
    config: &ProviderConfig,
) -> Result<(Arc<Provider>, ProviderKeys), Vec<ConfigProblem>> {
    let provider = build_provider(config).map_err(|problem| vec![problem])?;
    let keys = ProviderKeys::read(config, provider.vendor)?;
    Ok((Arc::new(provider), keys))
}

fn build_provider(config: &ProviderConfig) -> Result<Provider, ConfigProblem> {
    let vendor = vendors::find(&config.dialect).ok_or_else(|| {
        let names: Vec<&str> = vendors::all().iter().map(|vendor| vendor.name).collect();
        let hint = did_you_mean(&config.dialect, names.iter().copied());
        let (dialect, known) = (&config.dialect, names.join(", "));
        let message = format!("\"{dialect}\" is not a dialect{hint} (known: {known})");
        ConfigProblem::new("dialect", message)
    })?;
    let uri: Uri = config.base_url.parse().map_err(|error| {
        let message = format!("\"{}\" is not a URL: {error}", config.base_url);
        ConfigProblem::new("base_url", message)
    })?;
    let reach = Reach::configured(config.proxy.as_deref(), config.allow_private)
        .map_err(|message| ConfigProblem::new("proxy", message))?;
    let (endpoint, authority) = Endpoint::at(&uri, config.ca_file.as_deref(), reach)
        .map_err(|bad| ConfigProblem::new(bad.setting("base_url"), bad.to_string()))?;
    if vendor.wants_api_version() && config.api_version.is_none() {
        let dialect = vendor.name;
        let message = format!("dialect \"{dialect}\" needs one, such as \"2024-10-21\"");
        return Err(ConfigProblem::new("api_version", message));
    }
    let price_providers = config.price_providers();
    Ok(Provider {
        name: config.name.clone(),
        region: config.region.clone(),
        price_providers: price_providers.into_iter().map(str::to_owned).collect(),
        vendor,
        endpoint,
        authority,
        base_path: uri.path().trim_end_matches('/').to_owned(),
        timeouts: config.timeouts,
        unsupported: config.unsupported,
        api_version: config.api_version.clone(),
    })
}

/// Puts the aliases together, and the deployments that they name, each once.
struct DirectoryBuilder<'a> {
    providers: &'a HashMap<String, BuiltProvider>,
    models: &'a [ModelConfig],
    unknown_models: BTreeMap<String, String>,
    book: Arc<Book>,
    /// Deployments that were there before, by their names.
    before: HashMap<&'a str, &'a Deployment>,
    specs: Vec<DeploymentSpec>,
    deployments: Vec<Arc<Deployment>>,
    of_teams: OfTeams,
    problems: Vec<ConfigProblem>,
}

impl DirectoryBuilder<'_> {
    /// One alias; what of it does not fit is reported. `path` is its place in the configuration.
    fn alias(&mut self, path: &str, alias: &AliasConfig) -> AliasSpec {
        let mut targets = Vec::new();
        for (number, target) in alias.targets.iter().enumerate() {
            let place = format!("{path}.targets[{number}]");
            let window = target.context_window_tokens;
            let shares = self.shares(&place, &target.provider, &target.model, window);
            #[expect(clippy::cast_precision_loss, reason = "weights are small")]
            let weight = target.weight as f32;
            targets.extend(shares.into_iter().map(|(deployment, share)| TargetSpec {
                deployment,
                weight: weight * share,
                rank: alias.rank(number, target),
            }));
        }
        let shadow = alias.shadow.as_ref().and_then(|shadow| {
            let place = format!("{path}.shadow");
            let shares = self.shares(&place, &shadow.provider, &shadow.model, None);
            Some(ShadowSpec {
                // Copies go out with the provider's first key.
                deployment: DeploymentId::new(shares.first()?.0),
                share: shadow.share,
            })
        });
        AliasSpec {
            name: alias.name.clone(),
            strategy: alias.strategy(path, &mut self.problems),
            targets,
            retry: alias.retry.clone(),
            hedge: alias.hedge.clone(),
            shadow,
            exploration: alias.exploration,
        }
    }

    /// The deployments of a model at a provider, with their shares. None if there is a problem, which
    /// is reported.
    fn shares(
        &mut self,
        place: &str,
        provider: &str,
        model: &str,
        context_window_tokens: Option<u32>,
    ) -> Vec<(usize, f32)> {
        let Some(built) = self.providers.get(provider) else {
            let hint = did_you_mean(provider, self.providers.keys().map(String::as_str));
            let message = format!("there is no provider \"{provider}\"{hint}");
            let problem = ConfigProblem::new("provider", message);
            self.problems.push(problem.within(place));
            return Vec::new();
        };
        // A provider that could not be built has been reported.
        let Some((provider, keys)) = built else {
            return Vec::new();
        };
        let added = self.add(provider, keys, model, context_window_tokens);
        added.unwrap_or_else(|message| {
            let problem = ConfigProblem::new("model", message);
            self.problems.push(problem.within(place));
            Vec::new()
        })
    }

    /// One deployment per key that the provider's calls share, each with its share of the calls;
    /// one without a key if there is none. Those with the keys of teams are made, too.
    fn add(
        &mut self,
        provider: &Arc<Provider>,
        keys: &ProviderKeys,
        model: &str,
        context_window_tokens: Option<u32>,
    ) -> Result<Vec<(usize, f32)>, String> {
        let mut add = |key| self.add_one(provider, key, model, context_window_tokens);
        let whole: u32 = keys.pool.iter().map(|key| key.weight).sum();
        #[expect(clippy::cast_precision_loss, reason = "weights of keys are small")]
        let share = |key: &ProviderKey| key.weight as f32 / whole.max(1) as f32;
        let mut pool = Vec::new();
        for key in &keys.pool {
            pool.push((add(Some(key))?, share(key)));
        }
        let mut of_teams = Vec::new();
        for key in &keys.of_teams {
            of_teams.push((key.label.clone(), add(Some(key))?));
        }
        // Whoever has no key of their own calls a provider that has only those of teams without one.
        if pool.is_empty() {
            pool.push((add(None)?, 1.0));
        }
        for (label, own) in of_teams {
            for (shared, _) in &pool {
                let place = (DeploymentId::new(*shared), label.clone());
                self.of_teams.insert(place, DeploymentId::new(own));
            }
        }
        Ok(pool)
    }

    fn add_one(
        &mut self,
        provider: &Arc<Provider>,
        key: Option<&ProviderKey>,
        model: &str,
        context_window_tokens: Option<u32>,
    ) -> Result<usize, String> {
        let suffix = match key {
            Some(key) if key.label != "1" => format!("#{}", key.label),
            _ => String::new(),
        };
        let name = format!("{}/{model}{suffix}", provider.name);
        if let Some(known) = self.deployments.iter().position(|known| known.name == name) {
            return Ok(known);
        }
        let header = HeaderValue::from_str(&name)
            .map_err(|_| format!("\"{model}\" holds characters that no model has"))?;
        let key_name = key.map(|key| key.name(&provider.name));
        let auth = key.map(|key| key.auth.clone());
        // Another key is another account, for all that one knows.
        let same = self.before.get(&*name).filter(|same| same.auth == auth);
        let limits: Arc<ProviderLimits> =
            same.map_or_else(Arc::default, |same| same.limits.clone());
        limits.grant(&key.map(|key| key.granted).unwrap_or_default());
        let generation = self.generation(provider, model);
        let prices = provider.prices(&self.book, model);
        let ceiling = prices.as_ref().ok_or(Unpriced::NotInBook);
        let ceiling = ceiling.and_then(|prices| prices.ceiling(now()));
        self.specs.push(DeploymentSpec {
            name: name.clone(),
            provider: provider.name.clone(),
            model: model.to_owned(),
            key: key_name.clone().unwrap_or_default(),
            context_window_tokens,
            price: prices.as_ref().and_then(price_per_token),
        });
        self.deployments.push(Arc::new(Deployment {
            name,
            model: model.to_owned(),
            generation,
            prices,
            ceiling,
            book: self.book.clone(),
            provider: provider.clone(),
            key_name,
            auth,
            limits,
            header,
        }));
        Ok(self.deployments.len() - 1)
    }
}

impl DirectoryBuilder<'_> {
    /// What a model takes: as the first `[[model]]` says that is for it, or else as the build knows.
    fn generation(&mut self, provider: &Provider, model: &str) -> Generation {
        let vendor = provider.vendor;
        let mut models = self.models.iter().enumerate();
        let Some((index, own)) = models.find(|(_, own)| own.is_for(&provider.name, model)) else {
            if let Some(meaning) = vendor.model_warning(model) {
                let name = format!("{}/{model}", provider.name);
                self.unknown_models.insert(name, meaning);
            }
            return *vendor.generation(model);
        };
        vendor.own_generation(own).unwrap_or_else(|wrong| {
            let problem = ConfigProblem::new(wrong.setting, wrong.message);
            let problem = problem.within(&format!("model[{index}]"));
            if self.problems.iter().all(|known| known.path != problem.path) {
                self.problems.push(problem);
            }
            *vendor.generation(model)
        })
    }
}

/// Checks the `[[model]]` sections that name their provider, whether or not a target uses them.
fn check_models(
    models: &[ModelConfig],
    providers: &HashMap<String, BuiltProvider>,
    problems: &mut Vec<ConfigProblem>,
) {
    for (index, model) in models.iter().enumerate() {
        let Some(name) = &model.provider else {
            continue;
        };
        let problem = match providers.get(name) {
            None => {
                let hint = did_you_mean(name, providers.keys().map(String::as_str));
                let message = format!("there is no provider \"{name}\"{hint}");
                Some(ConfigProblem::new("provider", message))
            }
            // A provider that could not be built has been reported.
            Some(None) => None,
            Some(Some((provider, _))) => {
                let wrong = provider.vendor.own_generation(model).err();
                wrong.map(|wrong| ConfigProblem::new(wrong.setting, wrong.message))
            }
        };
        problems.extend(problem.map(|problem| problem.within(&format!("model[{index}]"))));
    }
}

fn now() -> Timestamp {
    let now_us = i64::try_from(Moment::now().unix_us).unwrap_or(i64::MAX);
    Timestamp::from_microsecond(now_us).unwrap_or(Timestamp::MAX)
}

/// What a token costs now, for routing by cost until real costs are measured.
fn price_per_token(prices: &Prices) -> Option<PriceSpec> {
    let call = PricedCall {
        at: now(),
        input_tokens: 0,
        service_tier: "",
        inference_geo: "",
    };
    let million = |input_tokens, output_tokens| {
        let usage = Usage {
            input_tokens,
            output_tokens,
            ..Usage::default()
        };
        let (PicoUsd(cost), _) = prices.charge(call, &usage).ok()?;
        Some(cost.unsigned_abs() / 1_000_000)
    };
    Some(PriceSpec {
        input_picousd: million(Some(1_000_000), None)?,
        // Embeddings have no output, and no price for it.
        output_picousd: million(None, Some(1_000_000)).unwrap_or(0),
    })
}

/// A hint at the name that looks most like the one asked for; empty if none does.
fn did_you_mean<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> String {
    let nearest = nearest(asked, names);
    let nearest = nearest.first();
    nearest.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"))
}

/// The names that look most like the one asked for, best first.
pub(crate) fn nearest<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    const LIKENESS_MIN: f64 = 0.6;
    let mut ranked: Vec<(f64, &str)> = names
        .map(|name| (strsim::jaro_winkler(asked, name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let shown = ranked.into_iter().take(NAMES_SHOWN_MAX);
    shown.map(|(_, name)| name).collect()
}
