//! Who is let in at the store's port, and how much of the store they get.

use std::io::Write as _;
use std::net::TcpStream;

use weir_tests::http::{Answer, Request};

use super::http::{error_code, get, post, send};
use super::{Running, alone, as_user, password, with_shared};

/// A statement as a user.
async fn ask(running: &Running, user: &str, path: &str, sql: &str) -> Answer {
    send(running.address, as_user(Request::post(path, sql), user)).await
}

/// Makes a table with one row, which may be there from no other test.
async fn bill(running: &Running, name: &str) {
    let sql =
        format!("CREATE TABLE {name} (a UInt8) ENGINE = MergeTree ORDER BY a AS SELECT 1 AS a");
    let answer = post(running.address, "/", sql).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn rows(running: &Running, table: &str) -> String {
    let sql = format!("SELECT count() FROM {table}");
    post(running.address, "/", sql).await.text()
}

#[test]
fn nothing_but_the_ping_is_answered_without_a_password() {
    with_shared(|running| async {
        assert_eq!(
            send(running.address, Request::get("/ping")).await.text(),
            "Ok.\n"
        );
        let header = |name: &str, key: &str| {
            Request::post("/", "SELECT 1")
                .header("X-ClickHouse-User", name)
                .header("X-ClickHouse-Key", key)
        };
        let basic = |pair| Request::post("/", "SELECT 1").header("Authorization", pair);
        for request in [
            Request::get("/"),
            Request::get("/replicas_status"),
            Request::get("/nowhere"),
            Request::get("/?query=SELECT+1"),
            Request::new("HEAD", "/?query=SELECT+1"),
            Request::new("OPTIONS", "/"),
            Request::post("/", "SELECT 1"),
            Request::post("/ping", "SELECT 1"),
            Request::post("/?no_such_setting=1", "SELECT 1"),
            Request::post("/?user=weir&password=", "SELECT 1"),
            Request::post("/?user=reader&password=secret-of-weir", "SELECT 1"),
            header("default", ""),
            header("weir", "wrong"),
            header("weir", &password("reader")),
            header("default", &password("weir")),
            basic("Basic d2VpcjpzZWNyZXQ="),
            basic("Basic !"),
            basic("Bearer secret-of-weir"),
        ] {
            let answer = send(running.address, request.clone()).await;
            assert_eq!(
                (answer.status, error_code(&answer)),
                (403, Some(516)),
                "{request:?}"
            );
        }
    });
}

#[test]
fn the_ways_in_that_clients_use_are_open() {
    with_shared(|running| async {
        for user in ["weir", "operator", "reader"] {
            let key = password(user);
            let in_url = format!("/?user={user}&password={key}");
            for request in [
                as_user(Request::post("/", "SELECT 1"), user),
                Request::post(&in_url, "SELECT 1"),
                Request::get(&format!("{in_url}&query=SELECT+1")),
            ] {
                assert_eq!(send(running.address, request).await.text(), "1\n", "{user}");
            }
        }
        // reader:secret-of-reader
        let basic = "Basic cmVhZGVyOnNlY3JldC1vZi1yZWFkZXI=";
        let basic = Request::post("/", "SELECT 1").header("authorization", basic);
        assert_eq!(send(running.address, basic).await.text(), "1\n");
    });
}

/// A browser sends what a page wants to any port of its machine, and a name may resolve to it.
#[test]
fn a_web_page_reads_and_writes_nothing() {
    with_shared(|running| async {
        bill(running, "seen_by_pages").await;
        let reads = "/?query=SELECT+count()+FROM+seen_by_pages";
        let writes = "/?query=TRUNCATE+TABLE+seen_by_pages&readonly=0";
        let from = |name: &'static str, value: &'static str| {
            [
                Request::get(reads),
                Request::get(writes),
                Request::post("/", "SELECT 1"),
            ]
            .map(|request| request.header(name, value))
        };
        let own = running.address.to_string();
        for request in [
            from("Sec-Fetch-Site", "cross-site"),
            from("Sec-Fetch-Site", "same-site"),
            from("Origin", "https://elsewhere.example"),
            from("Origin", "null"),
            // With the one that every request of these tests has.
            from("Host", "elsewhere.example"),
        ]
        .concat()
        {
            for request in [request.clone(), as_user(request, "weir")] {
                let answer = send(running.address, request.clone()).await;
                assert_eq!(
                    (answer.status, error_code(&answer)),
                    (403, Some(497)),
                    "{request:?}"
                );
            }
        }
        let typed = as_user(Request::get(reads), "reader").header("Sec-Fetch-Site", "none");
        assert_eq!(send(running.address, typed).await.text(), "1\n");
        assert_eq!(rows(running, "seen_by_pages").await, "1\n", "{own}");
    });
}

async fn by_name(running: &Running, host: &str) -> u16 {
    let key = password("reader");
    let head = format!(
        "POST /?user=reader&password={key} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         content-length: 8\r\n\r\nSELECT 1"
    );
    let address = running.address;
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        Answer::read(&mut stream).unwrap().status
    });
    asked.await.unwrap()
}

#[test]
fn only_the_stores_own_host_names_are_served() {
    alone(async {
        let running = Running::start_with(&["--host", "store.corp"]).await;
        for host in ["localhost", "127.0.0.1:8123", "[::1]", "store.corp:8123"] {
            assert_eq!(by_name(&running, host).await, 200, "{host}");
        }
        for host in ["elsewhere.example", "store.corp.elsewhere.example:8123", ""] {
            assert_eq!(by_name(&running, host).await, 403, "{host}");
        }
        running.stop().await;
    });
}

#[test]
fn get_writes_nothing_whatever_the_url_says() {
    with_shared(|running| async {
        bill(running, "got").await;
        for path in [
            "/?query=TRUNCATE+TABLE+got",
            "/?query=TRUNCATE+TABLE+got&readonly=0",
            "/?readonly=0&query=TRUNCATE+TABLE+got",
            "/?query=INSERT+INTO+got+VALUES+(2)&readonly=0",
            "/?query=INSERT+INTO+got+VALUES+(2)",
            "/?query=DROP+TABLE+got&readonly=2",
            "/?query=KILL+QUERY+WHERE+1",
            "/?query=SELECT+1&profile=default",
            "/?query=SELECT+1+SETTINGS+readonly=0",
        ] {
            let answer = get(running.address, path).await;
            assert_eq!(error_code(&answer), Some(164), "{path}: {}", answer.text());
        }
        let head = as_user(Request::new("HEAD", "/?query=TRUNCATE+TABLE+got"), "weir");
        send(running.address, head).await;
        assert_eq!(rows(running, "got").await, "1\n");
    });
}

#[test]
fn a_read_only_user_changes_nothing() {
    with_shared(|running| async {
        bill(running, "read_only").await;
        for user in ["reader", "operator"] {
            for sql in [
                "TRUNCATE TABLE read_only",
                "DROP TABLE read_only",
                "DROP DATABASE default",
                "ALTER TABLE read_only DELETE WHERE 1",
                "ALTER TABLE read_only UPDATE a = 2 WHERE 1",
                "INSERT INTO read_only VALUES (2)",
                "INSERT INTO read_only SELECT 2",
                "CREATE TABLE forged (a UInt8) ENGINE = Memory",
                "CREATE TEMPORARY TABLE forged (a UInt8)",
                "CREATE VIEW forged AS SELECT 1",
                "CREATE FUNCTION forged AS x -> x",
                "OPTIMIZE TABLE read_only",
                "RENAME TABLE read_only TO forged",
                "KILL QUERY WHERE 1",
                "SYSTEM FLUSH LOGS",
                "SET readonly = 0",
                "SELECT 1 PARALLEL WITH KILL QUERY WHERE 1",
            ] {
                let answer = ask(running, user, "/", sql).await;
                assert_eq!(
                    error_code(&answer),
                    Some(164),
                    "{user} {sql}: {}",
                    answer.text()
                );
            }
            for sql in [
                "SELECT * FROM file('/etc/hostname', 'LineAsString')",
                "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
                "SELECT * FROM remote('127.0.0.1:1', 'system.one')",
                "SELECT * FROM executable('id', 'TSV', 'a String')",
                "SELECT 1 INTO OUTFILE '/tmp/x'",
            ] {
                assert_ne!(
                    ask(running, user, "/", sql).await.status,
                    200,
                    "{user} {sql}"
                );
            }
            for sql in [
                "SELECT a FROM read_only",
                "WITH 1 AS a SELECT a",
                "(SELECT 1)",
            ] {
                assert_eq!(
                    ask(running, user, "/", sql).await.text(),
                    "1\n",
                    "{user} {sql}"
                );
            }
        }
        assert_eq!(rows(running, "read_only").await, "1\n");
        let dropped = post(running.address, "/", "DROP TABLE read_only").await;
        assert_eq!(dropped.status, 200, "{}", dropped.text());
    });
}

#[test]
fn a_reader_widens_neither_its_rights_nor_its_limits() {
    with_shared(|running| async {
        for (setting, value) in [
            ("readonly", "0"),
            ("profile", "default"),
            ("max_memory_usage", "0"),
            ("max_memory_usage", "1000000000000"),
            ("max_execution_time", "0"),
            ("max_execution_time", "301"),
            ("max_threads", "1000"),
            ("max_untracked_memory", "1000000000000"),
            ("max_result_bytes", "1000000000000"),
            ("max_temporary_data_on_disk_size_for_query", "0"),
            ("allow_introspection_functions", "1"),
        ] {
            let refused = async |path: &str, sql: &str| {
                let answer = ask(running, "reader", path, sql).await;
                let code = error_code(&answer);
                assert!(
                    matches!(code, Some(164 | 452)),
                    "{path} {sql}: {}",
                    answer.text()
                );
            };
            refused(&format!("/?{setting}={value}"), "SELECT 1").await;
            let clause = format!("SETTINGS {setting} = '{value}'");
            refused("/", &format!("SELECT 1 {clause}")).await;
            refused(
                "/",
                &format!("SELECT 1 SETTINGS join_use_nulls = 1, {setting} = '{value}'"),
            )
            .await;
        }
        // Where the engine holds nothing to limits, only what shapes the output is taken.
        for sql in [
            "SELECT * FROM (SELECT 1 SETTINGS max_insert_threads = 1)",
            "SELECT * FROM (SELECT 1 SETTINGS log_queries)",
            "SELECT * FROM (SELECT 1 SETTINGS max_memory_usage = '1000000')",
            "SELECT 1 SETTINGS max_threads = 1 UNION ALL SELECT 2",
            "SELECT 1 UNION ALL SELECT 2 SETTINGS max_insert_threads = 1",
        ] {
            let answer = ask(running, "reader", "/", sql).await;
            assert_eq!(error_code(&answer), Some(164), "{sql}: {}", answer.text());
        }
        let sql =
            "SELECT * FROM (SELECT 1 SETTINGS join_use_nulls = 1) SETTINGS max_insert_threads = 1";
        assert_eq!(ask(running, "reader", "/", sql).await.text(), "1\n");
        // Less is fine, and so is everything that only changes what comes out.
        let sql = "SELECT getSetting('max_memory_usage'), getSetting('readonly') \
                   SETTINGS join_use_nulls = 1, max_memory_usage = 50000000, max_threads = 1";
        let answer = ask(running, "reader", "/?max_execution_time=60", sql).await;
        assert_eq!(answer.text(), "50000000\t2\n");
    });
}

/// What the official clients and Grafana's data source add to their requests.
#[test]
fn the_settings_that_clients_send_are_taken_from_a_reader() {
    with_shared(|running| async {
        for settings in [
            // clickhouse-connect
            "session_id=5a&cancel_http_readonly_queries_on_client_close=1&client_protocol_version=0\
             &date_time_input_format=best_effort&send_progress_in_http_headers=1\
             &http_headers_progress_interval_ms=25000&wait_end_of_query=1",
            // @clickhouse/client
            "query_id=a1&database=default&default_format=JSON&enable_http_compression=1\
             &send_progress_in_http_headers=1&http_headers_progress_interval_ms=20000\
             &output_format_json_quote_64bit_integers=0",
            // clickhouse-go, as in Grafana
            "database=default&default_format=Native&max_execution_time=60\
             &client_protocol_version=0&log_comment=grafana",
            // clickhouse (Rust)
            "database=default&compress=1&default_format=RowBinaryWithNamesAndTypes&readonly=1",
        ] {
            let answer = ask(running, "reader", &format!("/?{settings}"), "SELECT 1").await;
            assert_eq!(answer.status, 200, "{settings}: {}", answer.text());
        }
    });
}

#[test]
fn a_big_query_of_a_reader_ends_at_its_memory_limit() {
    with_shared(|running| async {
        let limit = "SELECT getSetting('max_memory_usage')";
        let of = async |user: &str| {
            let answer = ask(running, user, "/", limit).await;
            answer.text().trim().parse::<u64>().unwrap()
        };
        let (reader, operator, weir) = (of("reader").await, of("operator").await, of("weir").await);
        assert!(
            reader > 0 && reader == operator && weir >= 7 * reader,
            "{reader} {weir}"
        );
        // More than any limit on any machine, if it came to its end.
        let sql = "SELECT length(groupArray(number)) FROM numbers(100000000000) \
                   SETTINGS max_memory_usage = 200000000";
        let answer = ask(running, "reader", "/", sql).await;
        assert_eq!(error_code(&answer), Some(241), "{}", answer.text());
        assert_eq!(post(running.address, "/", "SELECT 1").await.text(), "1\n");
    });
}

/// Opens connections that ask nothing, or not all of it.
fn idle(running: &Running, begun: &str) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(running.address).unwrap();
        stream.write_all(begun.as_bytes()).unwrap();
        stream
    };
    (0..300).map(open).collect()
}

#[test]
fn idle_connections_lock_nobody_out() {
    alone(async {
        let running = Running::start().await;
        bill(&running, "kept_open").await;
        let logged_in = as_user(Request::get("/?query=SELECT+1"), "reader").head(0);
        let logged_in = logged_in.replace("connection: close\r\n", "");
        for begun in ["", "POST / HTTP/1.1\r\nhost: local", &logged_in] {
            let held = idle(&running, begun);
            for user in ["operator", "reader"] {
                let answer = ask(&running, user, "/", "SELECT count() FROM kept_open").await;
                assert_eq!(answer.text(), "1\n", "{user}");
            }
            let insert = post(running.address, "/", "INSERT INTO kept_open VALUES (2)").await;
            assert_eq!(insert.status, 200);
            post(running.address, "/", "TRUNCATE TABLE kept_open").await;
            post(running.address, "/", "INSERT INTO kept_open VALUES (1)").await;
            drop(held);
        }
        running.stop().await;
    });
}

#[test]
fn dashboards_that_take_all_of_theirs_leave_the_others_theirs() {
    alone(async {
        let running = Running::start().await;
        bill(&running, "wanted").await;
        // Nothing comes out of these; they wait for each other, and end with their connections.
        let sql = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1 \
                   SETTINGS max_threads = 1";
        let question = as_user(Request::post("/", sql), "reader");
        let held: Vec<TcpStream> = (0..64)
            .map(|_| question.open(running.address).unwrap())
            .collect();
        let full = async || ask(&running, "reader", "/", "SELECT 1").await;
        let mut refused = full().await;
        while refused.status == 200 {
            refused = full().await;
        }
        assert_eq!((refused.status, error_code(&refused)), (503, Some(202)));
        for user in ["operator", "weir"] {
            let answer = ask(&running, user, "/", "SELECT count() FROM wanted").await;
            assert_eq!(answer.text(), "1\n", "{user}");
        }
        let insert = post(running.address, "/", "INSERT INTO wanted VALUES (2)").await;
        assert_eq!(insert.status, 200);
        drop(held);
        running.stop().await;
    });
}
