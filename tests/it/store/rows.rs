//! Rows in and out, through the crate `clickhouse`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use clickhouse::{Compression, Row};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Running, password, with_shared};

#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
struct EveryType {
    boolean: bool,
    int8: i8,
    int64: i64,
    int128: i128,
    uint16: u16,
    uint64: u64,
    float32: f32,
    float64: f64,
    decimal64: i64,
    decimal128: i128,
    text: String,
    low_cardinality: String,
    nullable: Option<u64>,
    nullable_text: Option<String>,
    #[serde(with = "clickhouse::serde::uuid")]
    uuid: Uuid,
    date: u16,
    time: u32,
    time64: i64,
    #[serde(with = "clickhouse::serde::ipv4")]
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    array: Vec<u32>,
    arrays: Vec<Vec<String>>,
    tuple: (u8, String),
    map: Vec<(String, String)>,
    tuples: Vec<(String, Option<f32>, f32)>,
}

const COLUMNS: &str = "
    boolean Bool, int8 Int8, int64 Int64, int128 Int128, uint16 UInt16, uint64 UInt64,
    float32 Float32, float64 Float64, decimal64 Decimal(18, 3), decimal128 Decimal(38, 12),
    text String, low_cardinality LowCardinality(String), nullable Nullable(UInt64),
    nullable_text Nullable(String), uuid UUID, date Date, time DateTime, time64 DateTime64(6, 'UTC'),
    ipv4 IPv4, ipv6 IPv6, array Array(UInt32), arrays Array(Array(String)),
    tuple Tuple(UInt8, String), map Map(LowCardinality(String), String),
    tuples Array(Tuple(LowCardinality(String), Nullable(Float32), Float32))";

fn row(number: u64) -> EveryType {
    let odd = number % 2 == 1;
    EveryType {
        boolean: odd,
        int8: -8,
        int64: i64::MIN + i64::try_from(number).unwrap(),
        int128: -(1 << 100),
        uint16: u16::MAX,
        uint64: number,
        float32: 0.1,
        float64: -1.0 / 3.0,
        decimal64: -1_234,
        decimal128: 37_500_000_000_000_000_000,
        text: "tab\tquote'\\ü\0".repeat(usize::try_from(number % 5).unwrap()),
        low_cardinality: format!("team-{}", number % 3),
        nullable: odd.then_some(number),
        nullable_text: odd.then(String::new),
        uuid: Uuid::from_u128(u128::from(number) << 64 | 7),
        date: 20_000,
        time: 1_700_000_000,
        time64: 1_700_000_000_123_456,
        ipv4: Ipv4Addr::new(10, 1, 2, 3),
        ipv6: Ipv6Addr::LOCALHOST,
        array: vec![1, 2, 3],
        arrays: vec![vec![], vec!["a".to_owned(), String::new()]],
        tuple: (7, "seven".to_owned()),
        map: vec![("run".to_owned(), number.to_string())],
        tuples: vec![("openai/gpt".to_owned(), odd.then_some(0.5), 0.25)],
    }
}

fn client(running: &Running) -> clickhouse::Client {
    clickhouse::Client::default()
        .with_url(format!("http://{}", running.address))
        .with_user("weir")
        .with_password(password("weir"))
}

async fn insert(client: &clickhouse::Client, table: &str, rows: &[EveryType]) {
    let mut insert = client.insert::<EveryType>(table).await.unwrap();
    for row in rows {
        insert.write(row).await.unwrap();
    }
    insert.end().await.unwrap();
}

#[test]
fn every_type_of_column_survives_the_way_there_and_back() {
    with_shared(|running| async {
        let client = client(running);
        let create =
            format!("CREATE TABLE every_type ({COLUMNS}) ENGINE = MergeTree ORDER BY uint64");
        client.query(&create).execute().await.unwrap();
        // Compressed and validated, plain, and without the columns' types: as many as make several
        // chunks on the way back.
        let rows: Vec<EveryType> = (0..90_000).map(row).collect();
        insert(&client, "every_type", &rows[..30_000]).await;
        let plain = client.clone().with_compression(Compression::None);
        insert(&plain, "every_type", &rows[30_000..60_000]).await;
        let unchecked = client.clone().with_validation(false);
        insert(&unchecked, "every_type", &rows[60_000..]).await;
        for client in [client, plain, unchecked] {
            let query = client.query("SELECT ?fields FROM every_type ORDER BY uint64");
            let back = query.fetch_all::<EveryType>().await.unwrap();
            assert_eq!(back.len(), rows.len());
            for (back, row) in back.iter().zip(&rows) {
                assert_eq!(back, row);
            }
        }
    });
}

#[test]
fn parameters_go_in_and_bytes_come_out() {
    with_shared(|running| async {
        let client = client(running);
        let sum = client
            .query("SELECT sum(number) FROM numbers({count:UInt64}) WHERE number != {not:UInt64}")
            .param("count", 10_u64)
            .param("not", 4_u64)
            .fetch_one::<u64>();
        assert_eq!(sum.await.unwrap(), 41);
        let odd = "it's a \\ \"quoted\" {text}\n?";
        let text = client
            .query("SELECT ?")
            .bind(odd)
            .fetch_one::<String>()
            .await
            .unwrap();
        assert_eq!(text, odd);
        let text = client
            .query("SELECT {a:String}")
            .param("a", odd)
            .fetch_one::<String>();
        assert_eq!(text.await.unwrap(), odd);
        let mut bytes = client
            .query("SELECT 1 AS a")
            .fetch_bytes("JSONEachRow")
            .unwrap();
        assert_eq!(bytes.collect().await.unwrap(), "{\"a\":1}\n".as_bytes());
        assert_eq!(
            client
                .query("SELECT 1 WHERE 0")
                .fetch_optional::<u8>()
                .await
                .unwrap(),
            None
        );
    });
}

#[test]
fn rows_go_in_as_ready_made_text() {
    with_shared(|running| async {
        let client = client(running);
        client
            .query("CREATE TABLE ready_made (a UInt32) ENGINE = MergeTree ORDER BY a")
            .execute()
            .await
            .unwrap();
        let mut insert = client.insert_formatted_with("INSERT INTO ready_made FORMAT CSV");
        for piece in ["1\n2", "2\n3", "\n"] {
            insert.send(piece.into()).await.unwrap();
        }
        insert.end().await.unwrap();
        let rows = client
            .query("SELECT a FROM ready_made ORDER BY a")
            .fetch_all::<u32>();
        assert_eq!(rows.await.unwrap(), [1, 3, 22]);
    });
}

#[test]
fn an_insert_that_is_not_ended_stores_nothing() {
    with_shared(|running| async {
        let client = client(running);
        client
            .query("CREATE TABLE abandoned (a UInt32) ENGINE = MergeTree ORDER BY a")
            .execute()
            .await
            .unwrap();
        #[derive(Row, Serialize)]
        struct Number {
            a: u32,
        }
        let mut insert = client.insert::<Number>("abandoned").await.unwrap();
        for a in 0..200_000 {
            insert.write(&Number { a }).await.unwrap();
        }
        drop(insert);
        // The next insert comes behind it.
        let mut insert = client.insert::<Number>("abandoned").await.unwrap();
        insert.write(&Number { a: 7 }).await.unwrap();
        insert.end().await.unwrap();
        let rows = client
            .query("SELECT a FROM abandoned")
            .fetch_all::<u32>()
            .await
            .unwrap();
        assert_eq!(rows, [7]);
    });
}

#[test]
fn an_error_after_rows_is_an_error_not_an_end() {
    with_shared(|running| async {
        let client = client(running);
        let sql = "SELECT number + throwIf(number = 300000) FROM numbers(1000000)";
        let mut cursor = client.query(sql).fetch::<u64>().unwrap();
        let mut read = 0;
        let error = loop {
            match cursor.next().await {
                Ok(Some(_)) => read += 1,
                Ok(None) => panic!("the rows ended after {read}, as if there were no more"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("Code: 395"), "{error}");
    });
}

#[test]
fn a_wrong_type_is_refused_before_anything_is_sent() {
    with_shared(|running| async {
        let client = client(running);
        client
            .query("CREATE TABLE typed (a UInt32) ENGINE = MergeTree ORDER BY a")
            .execute()
            .await
            .unwrap();
        #[derive(Row, Serialize)]
        struct Text<'a> {
            a: &'a str,
        }
        let mut insert = client.insert::<Text<'_>>("typed").await.unwrap();
        let error = insert.write(&Text { a: "7" }).await.unwrap_err();
        let error = weir_store::StoreError::new("insert", &error);
        assert_eq!(error.class, weir_store::ErrorClass::Permanent, "{error}");
        drop(insert);
        let counted: BTreeMap<u64, ()> = client
            .query("SELECT count() FROM typed")
            .fetch_all()
            .await
            .unwrap()
            .into_iter()
            .map(|n| (n, ()))
            .collect();
        assert_eq!(counted, BTreeMap::from([(0, ())]));
    });
}
