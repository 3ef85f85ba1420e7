//! kill -9 of any process at any moment: every answer that was whole has its event, once, with the cost
//! that its own usage makes.
//!
//! `WEIR_KILLS=500` kills so often, whatever comes; `WEIR_KILLS=gateway=20,ingestor=100,store=50` each so
//! often, in any order. `WEIR_SEED=n` repeats the choices and the times of a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use weir_loadtest::StopSwitch;
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_loadtest::replay::{ClientCall, ClientLedger, ReplayCaller, ReplayOptions, replay_until};
use weir_loadtest::trace::{Trace, TraceName};
use weir_schemas::clickhouse::EVENT_TABLES;
use weir_tests::weir::{Installation, Process, wait_for, wait_within};

/// Checkpoints are a minute apart, and a busy machine takes its time for tens of thousands of events.
const SEALED_WITHIN: Duration = Duration::from_secs(300);

/// Answers that come between five kills and the next five at least.
const ANSWERS_BETWEEN: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Gateway,
    Ingestor,
    Store,
}

/// Who is killed, in order, and how long to wait before each at most. A long run leaves an ingestor
/// the time to start and to be in the middle of its work.
fn kills(random: &mut StdRng) -> (Vec<Victim>, Duration) {
    use Victim::{Gateway, Ingestor, Store};
    let any = |random: &mut StdRng, count: usize| {
        let one = |_| [Gateway, Ingestor, Store][random.random_range(0..3)];
        (0..count).map(one).collect()
    };
    let Ok(wanted) = std::env::var("WEIR_KILLS") else {
        return (any(random, 20), Duration::from_millis(500));
    };
    let mut victims: Vec<Victim> = match wanted.parse() {
        Ok(count) => any(random, count),
        Err(_) => wanted.split(',').flat_map(some_of).collect(),
    };
    victims.shuffle(random);
    (victims, Duration::from_secs(5))
}

/// `gateway=20`.
fn some_of(wanted: &str) -> Vec<Victim> {
    let (name, count) = wanted.split_once('=').unwrap();
    let victim = match name {
        "gateway" => Victim::Gateway,
        "ingestor" => Victim::Ingestor,
        "store" => Victim::Store,
        _ => panic!("WEIR_KILLS names {name}"),
    };
    vec![victim; count.parse().unwrap()]
}

#[test]
fn no_answer_is_lost_or_doubled_when_processes_are_killed() {
    let seed = std::env::var("WEIR_SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    println!("seed {seed} (WEIR_SEED={seed} repeats the choice and the times of the kills)");
    let mut random = StdRng::seed_from_u64(seed);

    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&config(&mock.base_url())).unwrap();
    let key = weir.create_key("growth").unwrap();
    let mut parts = Parts::start(&weir);
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(AtomicUsize::new(0));
    let load = thread::spawn({
        let (done, answers, url) = (done.clone(), answers.clone(), weir.base_url());
        move || load_until(&done, &answers, url, key)
    });
    let (victims, pause_max) = kills(&mut random);
    for (number, victim) in victims.iter().enumerate() {
        thread::sleep(random.random_range(Duration::from_millis(50)..pause_max));
        println!("kill {}: {victim:?}", number + 1);
        parts.kill(*victim);
        // On a busy machine a gateway would be killed before it has answered anybody, every time.
        if number % 5 == 4 {
            let so_far = answers.load(Ordering::Relaxed);
            wait_for("answers between kills", || {
                Ok(answers.load(Ordering::Relaxed) >= so_far + ANSWERS_BETWEEN)
            })
            .unwrap();
        }
    }
    done.store(true, Ordering::Relaxed);
    let ledgers = load.join().unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();

    let whole: BTreeMap<String, u64> = ledgers
        .iter()
        .flat_map(ClientLedger::served)
        .map(|call| (call.request_id.clone().unwrap(), charged(call)))
        .collect();
    let sum: u64 = whole.values().sum();
    println!("{} answers were whole, for {sum} pUSD", whole.len());
    assert!(whole.len() > 20, "the load was too small to prove anything");
    check_sql(&weir, &whole);
    parts.check_seals();
}

fn config(base_url: &str) -> String {
    format!(
        r#"[[provider]]
name = "mock"
dialect = "openai"
base_url = "{base_url}"

[[alias]]
name = "fast-chat"
targets = [{{ provider = "mock", model = "small" }}]

[[price]]
provider = "mock"
model = "small"
input = "0.10"
output = "1"
"#
    )
}

/// What the answer's own usage costs, in picodollars: ten cents and a dollar for a million tokens.
fn charged(call: &ClientCall) -> u64 {
    let usage = call.usage.unwrap();
    usage.input * 100_000 + usage.output * 1_000_000
}

/// The processes as a user starts them; the ingestor runs the store in a process of its own.
struct Parts<'w> {
    weir: &'w Installation,
    gateway: Process,
    ingestor: Process,
}

impl<'w> Parts<'w> {
    fn start(weir: &'w Installation) -> Self {
        Self {
            weir,
            gateway: weir.start(&["gateway"]).unwrap(),
            ingestor: weir.start(&["ingestor"]).unwrap(),
        }
    }

    /// Kills one of the three. Gateway and ingestor are started again; the store must be by itself.
    fn kill(&mut self, victim: Victim) {
        self.check_seals();
        match victim {
            Victim::Gateway => {
                self.gateway.kill().unwrap();
                self.gateway = self.weir.start(&["gateway"]).unwrap();
            }
            Victim::Ingestor => {
                self.ingestor.kill().unwrap();
                self.ingestor = self.weir.start(&["ingestor"]).unwrap();
            }
            Victim::Store => self.ingestor.kill_child().unwrap(),
        }
    }

    /// Whatever was killed, rows are what their gateways sealed.
    fn check_seals(&self) {
        let log = self.ingestor.log();
        assert!(!log.contains("is not what its gateway sealed"), "{log}");
    }
}

/// What the clients have seen is in the tables, once, and no stream has a gap.
fn check_sql(weir: &Installation, whole: &BTreeMap<String, u64>) {
    let mut stored = BTreeMap::new();
    wait_for("every answer is stored", || {
        stored = stored_costs(weir);
        Ok(whole.keys().all(|id| stored.contains_key(id)))
    })
    .unwrap();
    for (id, cost) in whole {
        assert_eq!(stored[id], [*cost], "the rows of request {id}");
    }
    let events = EVENT_TABLES.map(|table| format!("SELECT stream, seq FROM weir.{table}"));
    let events = events.join(" UNION ALL ");
    let doubled = format!("SELECT count() - uniqExact(stream, seq) FROM ({events})");
    assert_eq!(weir.number(&doubled).unwrap(), 0, "events doubled");
    // The last events of a killed gateway are stored when its stream has been recovered.
    let gaps = format!(
        "SELECT count() FROM (SELECT stream FROM ({events}) GROUP BY stream HAVING max(seq) != count())"
    );
    if let Err(error) = weir.wait_for_number(&gaps, 0) {
        let said = weir.command(&["audit", "verify"]).output().unwrap();
        panic!("{error:#}\n{}", String::from_utf8_lossy(&said.stdout));
    }
    assert_eq!(
        weir.number("SELECT count() FROM weir.dead_letters")
            .unwrap(),
        0
    );
    let proof = verify(weir);
    println!("{proof}");
    let count = |name: &str| proof[name].as_u64().unwrap();
    let others = count("unsealed_events") + count("checkpoint_only_events");
    assert!(count("events") > others, "gateways sealed nothing: {proof}");
    // In a long run there is time for the checkpoint that comes once a minute.
    if std::env::var_os("WEIR_KILLS").is_some() {
        let stored = proof["events"].as_u64().unwrap();
        wait_within(SEALED_WITHIN, "everything is sealed", || {
            let proof = verify(weir);
            let [events, unsealed] =
                ["events", "unsealed_events"].map(|name| proof[name].as_u64().unwrap());
            Ok(events - unsealed >= stored)
        })
        .unwrap();
        println!("{}", verify(weir));
    }
}

/// What `weir audit verify` says, if it says that all is well.
fn verify(weir: &Installation) -> Value {
    let proof = weir.run(&["audit", "verify", "--json"]).unwrap();
    serde_json::from_slice(&proof.stdout).unwrap()
}

/// What each request costs, in picodollars, by every row that there is of it.
fn stored_costs(weir: &Installation) -> BTreeMap<String, Vec<u64>> {
    let sql = "SELECT toString(request_id) AS id, \
               toUInt64(ifNull(cost_usd, 0) * 1000000000000) AS cost FROM weir.requests";
    let mut costs = BTreeMap::<String, Vec<u64>>::new();
    // While the store starts again it says nothing.
    for row in weir.sql(sql).unwrap_or_default() {
        let cost = match &row["cost"] {
            Value::String(text) => text.parse().unwrap(),
            number => number.as_u64().unwrap(),
        };
        let id = row["id"].as_str().unwrap().to_owned();
        costs.entry(id).or_default().push(cost);
    }
    costs
}

/// One short replay after the other.
fn load_until(
    done: &AtomicBool,
    answers: &Arc<AtomicUsize>,
    url: String,
    key: String,
) -> Vec<ClientLedger> {
    let trace = Arc::new(Trace::named(TraceName::AzureConv, 40, 1).unwrap());
    let mut ledgers = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let options = ReplayOptions {
            url: url.clone(),
            callers: vec![ReplayCaller {
                team: "growth".into(),
                key: key.clone(),
            }],
            model: "fast-chat".into(),
            trace: trace.clone(),
            speed: 60.0,
            connections: 16,
            timeout: Duration::from_secs(10),
            ..ReplayOptions::default()
        };
        let answers = answers.clone();
        let replayed = replay_until(&options, &StopSwitch::default(), move |call| {
            // What an answer says of its usage stands at its end.
            answers.fetch_add(usize::from(call.usage.is_some()), Ordering::Relaxed);
        });
        ledgers.push(replayed.unwrap());
    }
    ledgers
}
