//! Providers and aliases as requests run on them: names resolved, addresses parsed, keys ready.
//!
//! A directory is built whole from the configuration and never changes. A reload puts another one
//! in its place; requests under way finish with the one they began with.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Uri};
use jiff::Timestamp;
use jiff::civil::Date;
use weir_dialects::{Unsupported, UpstreamErrorFacts, Vendor, vendors};
use weir_limits::ProviderLimits;
use weir_routing::{
    Alias, AliasSpec, BreakerSpec, DeploymentId, DeploymentSpec, HealthSnapshot, PriceSpec, Routes,
    RoutesSpec, ShadowSpec, TargetSet, TargetSpec,
};
use weir_schemas::prices::{Book, PricedCall, Prices};
use weir_schemas::{PicoUsd, Usage};

use crate::caps::NAMES_SHOWN_MAX;
use crate::setup::config::{
    AliasConfig, ProviderConfig, ShadowConfig, StickyConfig, TimeoutConfig,
};
use crate::setup::provider_keys::{AuthHeader, ProviderKey, ProviderKeys};
use crate::upstream::{Connection, Endpoint, Reach};
use weir_governance::clock::Moment;

/// What is shorter is no secret, and would be found in any text.
const REDACTED_BYTES_MIN: usize = 4;

/// Something in the configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigProblem {
    /// Setting that is wrong, as `provider[0].base_url`.
    pub path: String,
    pub message: String,
}

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
    pub(crate) provider: Arc<Provider>,
    /// What its calls are charged by. Without it they are unpriced.
    pub(crate) prices: Option<Prices>,
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
    let provider = build_provider(config).map_err(|(setting, message)| ConfigProblem {
        path: format!("provider \"{}\": {setting}", config.name),
        message,
    })?;
    Ok(Egress::of(&provider.endpoint))
}

/// Connects to a provider as its requests do, through its proxy and with TLS. Sends nothing.
pub async fn reach(config: &ProviderConfig, timeout_ms: u64) -> Result<(), String> {
    let provider = build_provider(config).map_err(|(_, message)| message)?;
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
    /// Positions of those that have none, and which they are.
    pub(crate) unpriced: TargetSet,
    pub(crate) unpriced_at: Vec<Arc<Deployment>>,
}

impl Deployment {
    /// What usage costs here when served in a tier (empty if the provider named none), and the
    /// version of the row of the price book that says so.
    pub(crate) fn charge(
        &self,
        usage: &Usage,
        service_tier: &str,
        at_us: u64,
    ) -> Option<(PicoUsd, Arc<str>)> {
        let call = PricedCall {
            at: Timestamp::from_microsecond(i64::try_from(at_us).ok()?).ok()?,
            input_tokens: usage.input_tokens.unwrap_or(0),
            service_tier,
        };
        self.prices.as_ref()?.charge(call, usage).ok()
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
        let Some(key) = self.key().map(str::as_bytes) else {
            return answer;
        };
        let find = |rest: &[u8]| rest.windows(key.len()).position(|part| part == key);
        let mut redacted = Vec::new();
        let mut rest = &answer[..];
        while let Some(at) = find(rest) {
            redacted.extend_from_slice(&rest[..at]);
            redacted.extend_from_slice(b"[redacted]");
            rest = &rest[at + key.len()..];
        }
        if redacted.is_empty() {
            return answer;
        }
        redacted.extend_from_slice(rest);
        redacted.into()
    }
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
        breaker: BreakerSpec,
        book: &Book,
        before: Option<&Self>,
    ) -> Result<Self, Vec<ConfigProblem>> {
        let mut problems = Vec::new();
        let providers = build_providers(providers, &mut problems);
        let mut deployments = Deployments::new(book, before);
        let habits = aliases.iter().map(Habits::from).collect();
        let aliases: Vec<AliasSpec> = aliases
            .iter()
            .enumerate()
            .map(|(index, alias)| {
                let builder = AliasBuilder {
                    path: format!("alias[{index}]"),
                    providers: &providers,
                    deployments: &mut deployments,
                    problems: &mut problems,
                };
                builder.build(alias)
            })
            .collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        let key_names = providers.iter().filter_map(|(name, built)| {
            let (_, keys) = built.as_ref()?;
            Some((name.clone(), keys.names(name).collect()))
        });
        let key_names = key_names.collect();
        let names: Vec<String> = aliases.iter().map(|alias| alias.name.clone()).collect();
        let spec = RoutesSpec {
            deployments: deployments.specs,
            aliases,
            breaker,
        };
        let routes =
            Routes::build(&spec, before.map(|before| &before.routes)).map_err(|errors| {
                let problem = |error: weir_routing::SpecError| {
                    let alias = error.alias.as_ref();
                    let index = alias.and_then(|alias| names.iter().position(|n| n == alias));
                    ConfigProblem {
                        // What is wrong with no alias in particular is wrong with the breaker.
                        path: index.map_or_else(|| "routing".into(), |i| format!("alias[{i}]")),
                        message: error.problem,
                    }
                };
                errors.into_iter().map(problem).collect::<Vec<_>>()
            })?;
        Ok(Self {
            routes,
            habits,
            deployments: deployments.built,
            of_teams: deployments.of_teams,
            key_names,
        })
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
        self.habits[alias.index()]
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
        for target in alias.targets() {
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
        for (number, target) in alias.targets().iter().enumerate() {
            let deployment = self.deployment(target.deployment);
            match deployment.charge(usage, "", now_us) {
                Some((here, _)) => cost.dearest = cost.dearest.max(Some(here)),
                None => {
                    cost.unpriced.insert(number);
                    cost.unpriced_at.push(deployment.clone());
                }
            }
        }
        cost
    }

    /// The aliases, in the order of the configuration.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.routes.aliases().iter().map(Alias::name)
    }
}

impl From<&AliasConfig> for Habits {
    fn from(alias: &AliasConfig) -> Self {
        Self {
            sticky: alias.sticky,
            prefix_affinity: alias.prefix_affinity,
        }
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
            problems.push(ConfigProblem {
                path: format!("{path}.name"),
                message: format!("there are two providers named \"{}\"", config.name),
            });
            continue;
        }
        let provider = build_provider(config)
            .map_err(|(setting, message)| vec![(setting.to_owned(), message)])
            .and_then(|provider| {
                let keys = ProviderKeys::read(config, provider.vendor)?;
                Ok((Arc::new(provider), keys))
            })
            .map_err(|found| {
                let problem = |(setting, message)| ConfigProblem {
                    path: format!("{path}.{setting}"),
                    message,
                };
                problems.extend(found.into_iter().map(problem));
            })
            .ok();
        built.insert(config.name.clone(), provider);
    }
    built
}

/// The error names the setting within the provider.
fn build_provider(config: &ProviderConfig) -> Result<Provider, (&'static str, String)> {
    let vendor = vendors::find(&config.dialect).ok_or_else(|| {
        let names: Vec<&str> = vendors::all().iter().map(|vendor| vendor.name).collect();
        let nearest = nearest(&config.dialect, names.iter().copied());
        let hint = nearest
            .first()
            .map(|n| format!("; did you mean \"{n}\"?"))
            .unwrap_or_default();
        (
            "dialect",
            format!(
                "\"{}\" is not a dialect{hint} (known: {})",
                config.dialect,
                names.join(", ")
            ),
        )
    })?;
    let bad_url = |message: String| ("base_url", message);
    let uri: Uri = config
        .base_url
        .parse()
        .map_err(|error| bad_url(format!("\"{}\" is not a URL: {error}", config.base_url)))?;
    let reach = Reach::configured(config.proxy.as_deref(), config.allow_private)
        .map_err(|message| ("proxy", message))?;
    let (endpoint, authority) = Endpoint::at(&uri, config.ca_file.as_deref(), reach)
        .map_err(|bad| (bad.setting("base_url"), bad.to_string()))?;
    if vendor.wants_api_version() && config.api_version.is_none() {
        let message = format!(
            "dialect \"{}\" needs one, such as \"2024-10-21\"",
            vendor.name
        );
        return Err(("api_version", message));
    }
    Ok(Provider {
        name: config.name.clone(),
        region: config.region.clone(),
        price_providers: config
            .price_providers()
            .iter()
            .map(|it| (*it).to_owned())
            .collect(),
        vendor,
        endpoint,
        authority,
        base_path: uri.path().trim_end_matches('/').to_owned(),
        timeouts: config.timeouts,
        unsupported: config.unsupported,
        api_version: config.api_version.clone(),
    })
}

/// The deployments that the aliases name, each once.
struct Deployments<'a> {
    book: &'a Book,
    /// Those that were there before, by their names.
    before: HashMap<&'a str, &'a Deployment>,
    specs: Vec<DeploymentSpec>,
    built: Vec<Arc<Deployment>>,
    of_teams: OfTeams,
}

impl<'a> Deployments<'a> {
    fn new(book: &'a Book, before: Option<&'a Directory>) -> Self {
        Self {
            book,
            before: before.map(Directory::by_name).unwrap_or_default(),
            specs: Vec::new(),
            built: Vec::new(),
            of_teams: OfTeams::new(),
        }
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
        if keys.pool.is_empty() && keys.of_teams.is_empty() {
            return Ok(vec![(add(None)?, 1.0)]);
        }
        let whole: u32 = keys.pool.iter().map(|key| key.part.weight).sum();
        #[expect(clippy::cast_precision_loss, reason = "weights of keys are small")]
        let share = |key: &ProviderKey| key.part.weight as f32 / whole.max(1) as f32;
        let pool = keys.pool.iter();
        let pool: Vec<(usize, f32)> = pool
            .map(|key| Ok((add(Some(key))?, share(key))))
            .collect::<Result<_, String>>()?;
        let of_teams = keys.of_teams.iter();
        let of_teams: Vec<(String, usize)> = of_teams
            .map(|key| Ok((key.label.clone(), add(Some(key))?)))
            .collect::<Result<_, String>>()?;
        // Whoever has no key of their own calls a provider that has only those of teams without one.
        let pool = if pool.is_empty() {
            vec![(add(None)?, 1.0)]
        } else {
            pool
        };
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
        if let Some(known) = self.built.iter().position(|known| known.name == name) {
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
        limits.grant(&key.map(|key| key.part.granted).unwrap_or_default());
        let prices = provider.prices(self.book, model);
        self.specs.push(DeploymentSpec {
            name: name.clone(),
            provider: provider.name.clone(),
            model: model.to_owned(),
            key: key_name.clone().unwrap_or_default(),
            context_window_tokens,
            price: prices.as_ref().and_then(price_per_token),
        });
        self.built.push(Arc::new(Deployment {
            name,
            model: model.to_owned(),
            prices,
            provider: provider.clone(),
            key_name,
            auth,
            limits,
            header,
        }));
        Ok(self.built.len() - 1)
    }
}

/// What a token costs now, for routing by cost until real costs are measured.
fn price_per_token(prices: &Prices) -> Option<PriceSpec> {
    let now = i64::try_from(Moment::now().unix_us).ok()?;
    let call = PricedCall {
        at: Timestamp::from_microsecond(now).ok()?,
        input_tokens: 0,
        service_tier: "",
    };
    let million = |usage: &Usage| {
        let (PicoUsd(cost), _) = prices.charge(call, usage).ok()?;
        Some(cost.unsigned_abs() / 1_000_000)
    };
    Some(PriceSpec {
        input_picousd: million(&Usage {
            input_tokens: Some(1_000_000),
            ..Usage::default()
        })?,
        // Embeddings have no output, and no price for it.
        output_picousd: million(&Usage {
            output_tokens: Some(1_000_000),
            ..Usage::default()
        })
        .unwrap_or(0),
    })
}

/// Puts one alias together, and says what of it does not fit.
struct AliasBuilder<'a, 'b> {
    path: String,
    providers: &'a HashMap<String, BuiltProvider>,
    deployments: &'a mut Deployments<'b>,
    problems: &'a mut Vec<ConfigProblem>,
}

impl AliasBuilder<'_, '_> {
    fn build(mut self, alias: &AliasConfig) -> AliasSpec {
        let mut targets = Vec::new();
        for (number, target) in alias.targets.iter().enumerate() {
            let place = format!("targets[{number}]");
            let window = target.context_window_tokens;
            let Some(ids) = self.deployments(&place, &target.provider, &target.model, window)
            else {
                continue;
            };
            #[expect(clippy::cast_precision_loss, reason = "weights are small")]
            let weight = target.weight as f32;
            targets.extend(ids.into_iter().map(|(deployment, share)| TargetSpec {
                deployment,
                weight: weight * share,
                rank: alias.rank(number, target),
            }));
        }
        let shadow = alias.shadow.as_ref().and_then(|shadow| self.shadow(shadow));
        AliasSpec {
            name: alias.name.clone(),
            strategy: alias.strategy(&self.path, self.problems),
            targets,
            retry: alias.retry.clone(),
            hedge: alias.hedge.clone(),
            shadow,
            exploration: alias.exploration,
        }
    }

    /// Copies go out with the provider's first key.
    fn shadow(&mut self, shadow: &ShadowConfig) -> Option<ShadowSpec> {
        let ids = self.deployments("shadow", &shadow.provider, &shadow.model, None)?;
        Some(ShadowSpec {
            deployment: DeploymentId::new(ids.first()?.0),
            share: shadow.share,
        })
    }

    /// The deployments of a model at a provider, with their shares. None if there is a problem, which is reported.
    fn deployments(
        &mut self,
        place: &str,
        provider: &str,
        model: &str,
        context_window_tokens: Option<u32>,
    ) -> Option<Vec<(usize, f32)>> {
        let Some(built) = self.providers.get(provider) else {
            let nearest = nearest(provider, self.providers.keys().map(String::as_str));
            let hint = nearest
                .first()
                .map(|n| format!("; did you mean \"{n}\"?"))
                .unwrap_or_default();
            self.problems.push(ConfigProblem {
                path: format!("{}.{place}.provider", self.path),
                message: format!("there is no provider \"{provider}\"{hint}"),
            });
            return None;
        };
        // A provider that could not be built has been reported.
        let (provider, keys) = built.as_ref()?;
        self.deployments
            .add(provider, keys, model, context_window_tokens)
            .map_err(|message| {
                let path = format!("{}.{place}.model", self.path);
                self.problems.push(ConfigProblem { path, message });
            })
            .ok()
    }
}

/// The names that look most like the one asked for, best first.
pub(crate) fn nearest<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    const LIKENESS_MIN: f64 = 0.6;
    let mut ranked: Vec<(f64, &str)> = names
        .map(|name| (strsim::jaro_winkler(asked, name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    ranked
        .into_iter()
        .take(NAMES_SHOWN_MAX)
        .map(|(_, name)| name)
        .collect()
}
