//! Every event with the extremes of every field. They are made by deserializing from nothing: what a
//! field's type asks for, it gets the least or the greatest of. So an event that is new is in.

use std::sync::LazyLock;

use serde::Deserialize as _;
use serde::de::value::{BorrowedStrDeserializer, Error, U64Deserializer};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use weir_schemas::{Count, Event, event, for_each_event};

use super::Ingesting;
use super::events::{born_us, open_journal};
use crate::store::{Running, alone};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Extreme {
    /// Zero, empty, absent, false.
    Least,
    /// The greatest number, a long text, lists, true.
    Greatest,
    /// The least of signed numbers, no number, characters that need care.
    Odd,
}

static LONG: LazyLock<String> = LazyLock::new(|| "weir ".repeat(20_000));
const ODD: &str = "\0'\"\\\n\t\u{7f}\u{feff}\u{10ffff}ä";
const ELEMENTS: u16 = 3;

/// An instance of the type that asks.
#[derive(Clone, Copy)]
struct Maker {
    extreme: Extreme,
    /// When the event happened: what is older than its stream is looked for nowhere.
    ts_us: u64,
}

impl Maker {
    fn text(self) -> &'static str {
        match self.extreme {
            Extreme::Least => "",
            Extreme::Greatest => &LONG,
            Extreme::Odd => ODD,
        }
    }
}

impl<'de> Deserializer<'de> for Maker {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        panic!("a field says nothing about its type")
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.extreme == Extreme::Greatest)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(match self.extreme {
            Extreme::Least => 0,
            Extreme::Greatest => i64::MAX,
            Extreme::Odd => i64::MIN,
        })
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u16(match self.extreme {
            Extreme::Least => 0,
            Extreme::Greatest | Extreme::Odd => u16::MAX,
        })
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(match self.extreme {
            Extreme::Least => 0,
            Extreme::Greatest | Extreme::Odd => u64::MAX,
        })
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(match self.extreme {
            Extreme::Least => 0.0,
            Extreme::Greatest => f64::MAX,
            Extreme::Odd => f64::NAN,
        })
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.text())
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_bytes(match self.extreme {
            Extreme::Least => &[0; 16],
            Extreme::Greatest | Extreme::Odd => &[0xff; 16],
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.extreme {
            Extreme::Least => visitor.visit_none(),
            Extreme::Greatest | Extreme::Odd => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Elements::of(self))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Elements::of(self))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let maker = self;
        visitor.visit_map(Fields { maker, fields })
    }

    forward_to_deserialize_any! {
        i8 i16 i32 u8 u32 f32 char string byte_buf unit unit_struct newtype_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

/// The elements of a list, or the entries of a map.
struct Elements {
    maker: Maker,
    left: u16,
}

impl Elements {
    fn of(maker: Maker) -> Self {
        let left = match maker.extreme {
            Extreme::Least => 0,
            Extreme::Greatest | Extreme::Odd => ELEMENTS,
        };
        Self { maker, left }
    }

    fn next(&mut self) -> Option<Maker> {
        self.left = self.left.checked_sub(1)?;
        Some(self.maker)
    }
}

impl<'de> SeqAccess<'de> for Elements {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.next().map(|maker| seed.deserialize(maker)).transpose()
    }
}

impl<'de> MapAccess<'de> for Elements {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.next().map(|maker| seed.deserialize(maker)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.maker)
    }
}

struct Fields {
    maker: Maker,
    fields: &'static [&'static str],
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let name = self.fields.first();
        let name = name.map(|name| seed.deserialize(BorrowedStrDeserializer::new(name)));
        name.transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.fields.split_off_first() {
            Some(&"ts_us") => seed.deserialize(U64Deserializer::new(self.maker.ts_us)),
            _ => seed.deserialize(self.maker),
        }
    }
}

macro_rules! declare_events {
    ($($table:ident { $($name:ident $body:tt $files:tt;)* })*) => {
        /// One of each.
        fn events(maker: Maker) -> Vec<Event<'static>> {
            vec![$($(Event::$name(event::$name::deserialize(maker).unwrap().into()),)*)*]
        }

        /// How many events of each table one of each are.
        const TABLES: &[(&str, u64)] = &[$((stringify!($table), 0 $(+ one(stringify!($name)))*),)*];
    };
}

const fn one(_: &str) -> u64 {
    1
}

for_each_event!(declare_events);

#[test]
fn the_extremes_of_every_field_of_every_event_become_rows() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        let dir = tempfile::tempdir().unwrap();
        let journal = open_journal(dir.path());
        let writer = journal.open_stream(0).unwrap();
        let ts_us = born_us(writer.id());
        for extreme in [Extreme::Least, Extreme::Greatest, Extreme::Odd] {
            let appended = writer.append(&events(Maker { extreme, ts_us })).unwrap();
            assert_eq!(appended.dropped, 0, "{extreme:?}");
        }
        writer.close().unwrap();
        Ingesting::drain_journal(dir.path(), running.store()).await;

        for (table, events) in TABLES {
            // The stream's own first and last event.
            let own = if *table == "streams" { 2 } else { 0 };
            let count = store.query(&format!("SELECT count() FROM {table}"));
            let rows = store.fetch::<u64>(count).await.unwrap();
            assert_eq!(rows, [3 * events + own], "{table}");
        }
        let dead = store.query("SELECT count() FROM dead_letters");
        assert_eq!(store.fetch::<u64>(dead).await.unwrap(), [0]);
        let greatest = store.query(
            "SELECT max(request_bytes), assumeNotNull(max(max_output_tokens)), \
             assumeNotNull(max(input_tokens)), max(length(user_agent)) FROM requests",
        );
        let greatest = store.fetch::<(u64, u64, u64, u64)>(greatest).await.unwrap();
        let (max, longest) = (Count::MAX.get(), LONG.len() as u64);
        assert_eq!(greatest, [(max, max, max, longest)]);
        running.stop().await;
    });
}
