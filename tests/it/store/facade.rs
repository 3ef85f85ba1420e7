//! What goes over the wire.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use weir_tests::http::{Answer, Request};

use super::http::{error_code, get, post, send};
use super::{Running, alone, as_user, password, with_shared};

async fn check(running: &Running, sql: &str, format: &str, expected: &str) {
    let answer = post(running.address, &format!("/?default_format={format}"), sql).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, expected),
        "{sql}"
    );
    assert!(answer.is_complete, "{sql}");
}

/// Makes a table, which may be there from no other test.
async fn table(running: &Running, name: &str, columns: &str) {
    let sql = format!("CREATE TABLE {name} ({columns}) ENGINE = MergeTree ORDER BY tuple()");
    let answer = post(running.address, "/", sql).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn count(running: &Running, table: &str) -> String {
    post(running.address, "/", format!("SELECT count() FROM {table}"))
        .await
        .text()
}

#[test]
fn health_is_answered_as_by_clickhouse() {
    with_shared(|running| async {
        for path in ["/ping", "/", "/replicas_status"] {
            let answer = get(running.address, path).await;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "Ok.\n"),
                "{path}"
            );
        }
        assert_eq!(get(running.address, "/nowhere").await.status, 404);
        assert_eq!(
            send(
                running.address,
                as_user(Request::new("DELETE", "/"), "weir")
            )
            .await
            .status,
            405
        );
    });
}

#[test]
fn results_come_in_the_format_asked_for() {
    with_shared(|running| async {
        let sql = "SELECT number AS n, 'a' AS s FROM numbers(2)";
        check(running, sql, "TSV", "0\ta\n1\ta\n").await;
        check(
            running,
            sql,
            "CSVWithNames",
            "\"n\",\"s\"\n0,\"a\"\n1,\"a\"\n",
        )
        .await;
        check(
            running,
            sql,
            "JSONEachRow",
            "{\"n\":0,\"s\":\"a\"}\n{\"n\":1,\"s\":\"a\"}\n",
        )
        .await;
        check(
            running,
            sql,
            "RowBinary",
            "\0\0\0\0\0\0\0\0\u{1}a\u{1}\0\0\0\0\0\0\0\u{1}a",
        )
        .await;
        check(
            running,
            &format!("{sql} FORMAT Values"),
            "TSV",
            "(0,'a'),(1,'a')",
        )
        .await;
        check(running, "SELECT 1 WHERE 0", "TSVWithNames", "1\n").await;
        let answer = post(running.address, "/?default_format=JSON", sql).await;
        assert!(answer.text().contains("\"rows\": 2"), "{}", answer.text());
        assert_eq!(answer.header("x-clickhouse-format"), Some("JSON"));
        assert_eq!(
            answer.header("content-type").unwrap(),
            "application/json; charset=UTF-8"
        );
    });
}

#[test]
fn the_head_says_what_happened() {
    with_shared(|running| async {
        let path = "/?query_id=my-query";
        let answer = post(running.address, path, "SELECT count() FROM numbers(1000)").await;
        assert_eq!(answer.header("x-clickhouse-query-id").unwrap(), "my-query");
        assert!(
            answer
                .header("x-clickhouse-summary")
                .unwrap()
                .contains("\"read_rows\":\"1000\""),
            "{:?}",
            answer.head
        );
        let answer = get(running.address, "/?query=SELECT+1").await;
        assert_eq!(answer.header("x-clickhouse-query-id").unwrap().len(), 36);
    });
}

#[test]
fn a_long_result_has_one_header() {
    with_shared(|running| async {
        // Three chunks of the engine, each of which is a document of its own.
        let sql = "SELECT number AS n FROM numbers(200000)";
        let answer = post(running.address, "/?default_format=CSVWithNames", sql).await;
        assert!(answer.is_complete);
        let text = answer.text();
        assert_eq!(text.matches("\"n\"").count(), 1);
        assert_eq!(text.lines().count(), 200_001);
    });
}

#[test]
fn parameters_settings_and_database_come_by_the_url() {
    with_shared(|running| async {
        let path = "/?param_x=a%27b%5C%5Cc&max_threads=1&database=system";
        let sql = "SELECT {x:String}, getSetting('max_threads'), currentDatabase()";
        let answer = post(running.address, path, sql).await;
        assert_eq!(answer.text(), "a\\'b\\\\c\t1\tsystem\n");
        // Nothing of it is left for the next request.
        let answer = post(running.address, "/", "SELECT currentDatabase()").await;
        assert_eq!(answer.text(), "default\n");
        let answer = post(running.address, "/?database=nowhere", "SELECT 1").await;
        assert_eq!((answer.status, error_code(&answer)), (404, Some(81)));
    });
}

#[test]
fn rows_may_come_in_the_body_behind_the_statement_and_in_the_url() {
    with_shared(|running| async {
        table(running, "intake", "a UInt32, b String").await;
        let insert = |path: &'static str, body: &'static str| post(running.address, path, body);
        for (path, body) in [
            ("/?query=INSERT+INTO+intake+FORMAT+TSV", "1\tx\n2\ty\n"),
            ("/?query=INSERT+INTO+intake+VALUES", "(3, 'x')"),
            ("/?query=INSERT+INTO+intake+VALUES+(4,'x')", ""),
            ("/", "INSERT INTO intake FORMAT CSV\n5,x\n6,y\n"),
            ("/", "INSERT INTO intake VALUES (7, 'a;b'), (8, 'c')"),
            (
                "/?query=INSERT+INTO+intake",
                "FORMAT JSONEachRow {\"a\": 9, \"b\": \"x\"}",
            ),
            ("/", "INSERT INTO intake SELECT 10, 'x'"),
        ] {
            let answer = insert(path, body).await;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, ""),
                "{path} {body}"
            );
        }
        let sql = "SELECT groupArray(a) FROM (SELECT a FROM intake ORDER BY a)";
        check(running, sql, "TSV", "[1,2,3,4,5,6,7,8,9,10]\n").await;
    });
}

#[test]
fn errors_have_clickhouses_code_and_status() {
    with_shared(|running| async {
        table(running, "refusing", "a UInt32").await;
        for (path, body, status, code) in [
            ("/", "SELECT nothing", 404, 47),
            ("/", "SELEC 1", 400, 62),
            ("/", "", 400, 62),
            ("/", "SELECT 1; SELECT 2", 400, 62),
            ("/", "SELECT * FROM nowhere", 404, 60),
            ("/?no_such_setting=1", "SELECT 1", 404, 115),
            ("/?default_format=NoSuchFormat", "SELECT 1", 404, 73),
            ("/?max_execution_time=1", "SELECT sleep(2)", 408, 159),
            (
                "/?max_memory_usage=10000000",
                "SELECT groupArray(number) FROM numbers(100000000)",
                500,
                241,
            ),
            ("/?query=INSERT+INTO+refusing+FORMAT+TSV", "1\nx\n", 400, 27),
            ("/?query=INSERT+INTO+nowhere+FORMAT+TSV", "1\n", 404, 60),
        ] {
            let answer = post(running.address, path, body).await;
            assert_eq!(
                (answer.status, error_code(&answer)),
                (status, Some(code)),
                "{path} {body}"
            );
            assert!(
                answer
                    .text()
                    .starts_with(&format!("Code: {code}. DB::Exception: ")),
                "{body}"
            );
            assert!(answer.text().ends_with(")\n"), "{}", answer.text());
        }
        assert_eq!(count(running, "refusing").await, "0\n");
    });
}

#[test]
fn an_error_after_output_breaks_the_answer_off() {
    with_shared(|running| async {
        // One thread, and an error so late that the engine cannot have met it before the first rows
        // are on their way.
        let sql = "SELECT number, throwIf(number = 3000000) FROM numbers(4000000) \
                   SETTINGS max_threads = 1";
        let answer = post(running.address, "/", sql).await;
        assert_eq!(answer.status, 200);
        let tag = answer.header("x-clickhouse-exception-tag").unwrap();
        assert!(
            answer
                .text()
                .ends_with(&format!(" {tag}\r\n__exception__\r\n"))
        );
        assert!(answer.text().contains("Code: 395. DB::Exception"));
        assert!(
            !answer.is_complete,
            "the body must not end as if it were whole"
        );
    });
}

#[test]
fn what_is_readonly_changes_nothing() {
    with_shared(|running| async {
        table(running, "readonly", "a UInt32").await;
        for answer in [
            get(running.address, "/?query=DROP+TABLE+readonly").await,
            post(running.address, "/?readonly=1", "DROP TABLE readonly").await,
            post(
                running.address,
                "/?readonly=1",
                "INSERT INTO readonly VALUES (1)",
            )
            .await,
            post(running.address, "/?readonly=1", "SET max_threads = 1").await,
        ] {
            assert_eq!(error_code(&answer), Some(164), "{}", answer.text());
        }
        assert_eq!(
            get(running.address, "/?query=SELECT+count()+FROM+readonly")
                .await
                .text(),
            "0\n"
        );
    });
}

#[test]
fn sql_reaches_no_files_programs_or_other_servers() {
    with_shared(|running| async {
        let outside = running.directory.path().join("outside");
        let out = format!("SELECT 1 INTO OUTFILE '{}'", outside.display());
        let into_function = format!(
            "INSERT INTO FUNCTION file('{}', 'TSV', 'a String') SELECT 'x'",
            outside.display()
        );
        for sql in [
            "SELECT file('/etc/hostname')",
            "SELECT * FROM file('/etc/hostname', 'LineAsString')",
            "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
            "SELECT * FROM remote('127.0.0.1:1', 'system.one')",
            "SELECT * FROM sqlite('/tmp/x.db', 't')",
            "CREATE TABLE f (a String) ENGINE = File(TSV, '/etc/hostname')",
            "CREATE TABLE f (a String) ENGINE = EmbeddedRocksDB(0, '/tmp/x') PRIMARY KEY a",
            "CREATE DATABASE f ENGINE = Filesystem('/etc')",
            "BACKUP TABLE system.one TO File('/tmp/x')",
            "ATTACH TABLE f FROM '/tmp' (a String) ENGINE = MergeTree ORDER BY a",
            "CREATE DICTIONARY d (a UInt64) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'id' FORMAT TSV)) LAYOUT(FLAT()) LIFETIME(0)",
            "SYSTEM SHUTDOWN",
            "SYSTEM KILL",
            "CREATE USER u IDENTIFIED BY 'x'",
            &out,
            &into_function,
        ] {
            let answer = post(running.address, "/", sql).await;
            assert_ne!(answer.status, 200, "{sql}");
        }
        assert!(!outside.exists());
        check(running, "SELECT 1", "TSV", "1\n").await;
    });
}

#[test]
fn a_body_that_breaks_off_is_not_stored() {
    with_shared(|running| async {
        table(running, "broken_off", "a UInt32").await;
        let path = "/?query=INSERT+INTO+broken_off+FORMAT+TSV&query_id=broken-off";
        let mut stream = TcpStream::connect(running.address).unwrap();
        let head = as_user(Request::new("POST", path), "weir").head(1000);
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(b"1\n2\n3\n").unwrap();
        wait_for_statement(running, "broken-off", true).await;
        drop(stream);
        wait_for_statement(running, "broken-off", false).await;
        assert_eq!(count(running, "broken_off").await, "0\n");
    });
}

#[test]
fn a_client_that_leaves_has_its_statement_stopped() {
    with_shared(|running| async {
        // Nothing comes out of this for minutes: only a kill stops it.
        let sql = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1";
        let question = as_user(Request::post("/?query_id=left-behind", sql), "weir");
        let stream = question.open(running.address).unwrap();
        wait_for_statement(running, "left-behind", true).await;
        drop(stream);
        wait_for_statement(running, "left-behind", false).await;
    });
}

/// Waits until a statement runs, or runs no more.
async fn wait_for_statement(running: &Running, query_id: &str, runs: bool) {
    let sql = format!(
        "SELECT count() FROM system.processes WHERE endsWith(Settings['log_comment'], '{query_id}')"
    );
    let expected = if runs { "1\n" } else { "0\n" };
    let started = Instant::now();
    while post(running.address, "/", &*sql).await.text() != expected {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{query_id} should run: {runs}"
        );
    }
}

#[test]
fn many_statements_run_at_once_and_more_wait() {
    with_shared(|running| async {
        let address = running.address;
        // More than there are places: 8.
        let asked: Vec<_> = (0..40)
            .map(|number| {
                let sql = format!("SELECT {number} + sleep(0.2)");
                tokio::spawn(async move { post(address, "/", sql).await })
            })
            .collect();
        for (number, answer) in (0..).zip(asked) {
            let answer: Answer = answer.await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, format!("{number}\n")));
        }
    });
}

#[test]
fn a_large_result_is_never_in_memory_as_a_whole() {
    alone(async {
        let running = Running::start().await;
        let pid = super::ready(&running.supervisor).await.1;
        // 2 GB. The client takes a little, pauses until the engine can give no more, and takes the
        // rest.
        let sql = "SELECT number, toString(number), cityHash64(number) FROM numbers(70000000) FORMAT RowBinary";
        post(
            running.address,
            "/",
            "SELECT number, toString(number) FROM numbers(1000000)",
        )
        .await;
        let before = resident_bytes(pid);
        let question = as_user(Request::post("/", sql), "weir");
        let mut stream = question.open(running.address).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let (mut received, mut highest) = (0_u64, before);
        loop {
            let read = stream.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            if received == 0 {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            if received >> 26 != (received + read as u64) >> 26 {
                highest = highest.max(resident_bytes(pid));
            }
            received += read as u64;
        }
        assert!(received > 1_700_000_000, "{received} bytes arrived");
        let grown = highest.saturating_sub(before);
        assert!(
            grown < 150 << 20,
            "the store grew by {grown} bytes for a result of {received}"
        );
        running.stop().await;
    });
}

fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim()
        .strip_suffix(" kB")
        .unwrap()
        .trim()
        .parse::<u64>()
        .unwrap()
        << 10
}

#[test]
fn rows_that_are_refused_get_an_answer_though_more_are_coming() {
    with_shared(|running| async {
        table(running, "refused_early", "a UInt32").await;
        // The first row is wrong, and 8 MB follow it.
        let body = [b"x\n".as_slice(), &b"1\n".repeat(4 << 20)].concat();
        let path = "/?query=INSERT+INTO+refused_early+FORMAT+TSV";
        let answer = post(running.address, path, body).await;
        assert_eq!(error_code(&answer), Some(27), "{}", answer.text());
    });
}

#[test]
fn rows_may_come_gzipped_and_count_only_if_whole() {
    // Two rows, packed by Python's gzip.
    const ROWS: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0x33, 0xe4, 0x4c, 0xe4, 0x32, 0xe2, 0x4c, 0xe2, 2, 0,
        0x99, 0xe6, 0x28, 0xd2, 8, 0, 0, 0,
    ];
    with_shared(|running| async {
        table(running, "gzipped", "n UInt8, s String").await;
        let insert = "/?query=INSERT%20INTO%20gzipped%20FORMAT%20TSV";
        let insert = |rows: &[u8]| {
            let rows = Request::post(insert, rows).header("Content-Encoding", "gzip");
            send(running.address, as_user(rows, "weir"))
        };
        let answer = insert(ROWS).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        check(
            running,
            "SELECT * FROM gzipped ORDER BY n",
            "TSV",
            "1\ta\n2\tb\n",
        )
        .await;
        let cut = &ROWS[..ROWS.len() - 6];
        let answer = insert(cut).await;
        assert!(answer.text().contains("Cannot decode"), "{}", answer.text());
        assert_eq!(count(running, "gzipped").await, "2\n");
    });
}

/// The text of an error in blocks: the store itself unpacks it, as rows.
async fn unpacked(running: &Running, blocks: Vec<u8>) -> String {
    let insert = "/?decompress=1&query=INSERT+INTO+errors_in_blocks+FORMAT+LineAsString";
    assert_eq!(post(running.address, insert, blocks).await.text(), "");
    let text =
        "SELECT arrayStringConcat(groupArray(text), '|') FROM errors_in_blocks FORMAT TSVRaw";
    let text = post(running.address, "/", text).await.text();
    post(running.address, "/", "TRUNCATE TABLE errors_in_blocks").await;
    text
}

#[test]
fn errors_are_packed_in_blocks_like_results() {
    with_shared(|running| async {
        table(running, "errors_in_blocks", "text String").await;
        for (path, statement, code) in [
            ("/?compress=1", "SELECT nothing", 47),
            ("/?compress=1&database=nowhere", "SELECT 1", 81),
            ("/?compress=1", "SELEC 1", 62),
            (
                "/?compress=1&query=INSERT+INTO+nowhere+FORMAT+TSV",
                "1\n",
                60,
            ),
        ] {
            let answer = post(running.address, path, statement).await;
            assert_eq!(error_code(&answer), Some(code), "{path} {statement}");
            let said = unpacked(running, answer.body).await;
            let begin = format!("Code: {code}. DB::Exception: ");
            assert!(said.starts_with(&begin), "{path} {statement}: {said}");
        }
        // One that comes when rows are on their way already.
        let late = "SELECT toString(throwIf(number = 3000000)) FROM system.numbers LIMIT 4000000 \
                    FORMAT TSV";
        let answer = post(running.address, "/?compress=1", late).await;
        assert!(!answer.is_complete);
        let tag = answer
            .header("x-clickhouse-exception-tag")
            .unwrap()
            .to_owned();
        let said = unpacked(running, answer.body).await;
        assert!(
            said.contains("__exception__") && said.contains(&tag),
            "{}",
            said.len()
        );
        assert!(said.contains("DB::Exception"));
    });
}

#[test]
fn errors_are_encoded_as_the_client_accepts_and_asks() {
    with_shared(|running| async {
        let ask = |path: &'static str, accept: &str| {
            let request = Request::post(path, "SELECT nothing").header("accept-encoding", accept);
            send(running.address, as_user(request, "weir"))
        };
        for (path, accept, encoding) in [
            ("/?enable_http_compression=1", "gzip", Some("gzip")),
            ("/?enable_http_compression=1", "deflate", Some("deflate")),
            ("/?enable_http_compression=1", "br, lz4", None),
            ("/?enable_http_compression=1", "gzip;q=0", None),
            ("/?enable_http_compression=0", "gzip", None),
            ("/", "gzip, deflate", None),
        ] {
            let answer = ask(path, accept).await;
            assert_eq!(
                answer.header("content-encoding"),
                encoding,
                "{path} {accept}"
            );
            assert_eq!(error_code(&answer), Some(47));
            let is_plain = answer.text().contains("DB::Exception");
            assert_eq!(is_plain, encoding.is_none(), "{path} {accept}");
        }
        let url = format!(
            "http://weir:{}@{}/?enable_http_compression=1",
            password("weir"),
            running.address
        );
        let curl = || {
            let mut curl = std::process::Command::new("curl");
            curl.args([
                "-sS",
                "--compressed",
                "--data-binary",
                "SELECT nothing",
                &url,
            ]);
            curl.output().unwrap()
        };
        let said = tokio::task::block_in_place(curl);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.starts_with("Code: 47. DB::Exception: "), "{said}");
    });
}

/// ClickHouse's Go client asks this first, for Native output with block info, and then reads what the
/// answer's revision has: none.
#[test]
fn the_first_question_of_the_go_client_is_answered_as_it_expects() {
    with_shared(|running| async {
        let question = "SELECT displayName(), version(), revision(), timezone()";
        let path = "/?client_protocol_version=54460&default_format=Native";
        let answer = post(running.address, path, question).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            answer.body[..11],
            [1, 0, 2, 255, 255, 255, 255, 0, 4, 1, 13]
        );
        let revision = b"revision()\x06UInt32\0\0\0\0\0";
        let is_there = |window: &[u8]| window == revision;
        assert!(answer.body.windows(revision.len()).any(is_there));
    });
}
