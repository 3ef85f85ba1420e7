//! kill -9 of any process at any moment: every answer that was whole has its event, once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_loadtest::replay::{Caller, ClientLedger, ReplayOptions, replay};
use weir_loadtest::trace::{Trace, TraceName};
use weir_tests::weir::{Installation, Process};

/// How often something is killed; `WEIR_KILLS` asks for more.
fn kills() -> usize {
    std::env::var("WEIR_KILLS").map_or(20, |kills| kills.parse().unwrap())
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
    let load = thread::spawn({
        let (done, url) = (done.clone(), weir.base_url());
        move || load_until(&done, url, key)
    });
    for _ in 0..kills() {
        thread::sleep(Duration::from_millis(random.random_range(50..500)));
        parts.kill(random.random_range(0..3));
    }
    done.store(true, Ordering::Relaxed);
    let ledgers = load.join().unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();

    let whole: BTreeSet<String> = ledgers
        .iter()
        .flat_map(ClientLedger::served)
        .filter_map(|call| call.request_id.clone())
        .collect();
    println!("{} answers were whole", whole.len());
    assert!(
        whole.len() > 100,
        "the load was too small to prove anything"
    );
    check_sql(&weir, &whole);
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
"#
    )
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
    fn kill(&mut self, which: usize) {
        match which {
            0 => {
                self.gateway.kill().unwrap();
                self.gateway = self.weir.start(&["gateway"]).unwrap();
            }
            1 => {
                self.ingestor.kill().unwrap();
                self.ingestor = self.weir.start(&["ingestor"]).unwrap();
            }
            _ => self.ingestor.kill_child().unwrap(),
        }
    }
}

/// What the clients have seen is in the tables, once, and no stream has a gap.
fn check_sql(weir: &Installation, whole: &BTreeSet<String>) {
    let ids = whole.iter().map(|id| format!("'{id}'"));
    let list = ids.collect::<Vec<_>>().join(",");
    let stored =
        format!("SELECT uniqExact(request_id) FROM weir.requests WHERE request_id IN ({list})");
    weir.wait_for_number(&stored, whole.len() as u64).unwrap();
    let rows = format!("SELECT count() FROM weir.requests WHERE request_id IN ({list})");
    assert_eq!(
        weir.number(&rows).unwrap(),
        whole.len() as u64,
        "a request is stored twice"
    );
    for table in ["requests", "attempts", "streams", "control_changes"] {
        let doubled = format!("SELECT count() - uniqExact(stream, seq) FROM weir.{table}");
        assert_eq!(
            weir.number(&doubled).unwrap(),
            0,
            "events doubled in {table}"
        );
    }
    // The last events of a killed gateway are stored when its stream has been recovered.
    let gaps = "SELECT count() FROM (SELECT stream FROM \
        (SELECT stream, seq FROM weir.requests UNION ALL SELECT stream, seq FROM weir.attempts \
         UNION ALL SELECT stream, seq FROM weir.streams \
         UNION ALL SELECT stream, seq FROM weir.control_changes) \
         GROUP BY stream HAVING max(seq) != count())";
    weir.wait_for_number(gaps, 0).unwrap();
    assert_eq!(
        weir.number("SELECT count() FROM weir.dead_letters")
            .unwrap(),
        0
    );
}

/// One short replay after the other.
fn load_until(done: &AtomicBool, url: String, key: String) -> Vec<ClientLedger> {
    let trace = Arc::new(Trace::named(TraceName::AzureConv, 40, 1).unwrap());
    let mut ledgers = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let options = ReplayOptions {
            url: url.clone(),
            callers: vec![Caller {
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
        ledgers.push(replay(&options).unwrap());
    }
    ledgers
}
