//! ClickHouse's RowBinary of a row, as its `formatRow` writes the row when it is stored. Pure.
//!
//! The crate `clickhouse` has the like for its inserts and keeps it to itself.

use std::fmt::{self, Display};

use serde::ser::{
    Impossible, Serialize, SerializeSeq, SerializeStruct, SerializeTuple, Serializer,
};

/// A value has no place in a row. None of the rows' types is of that kind.
#[derive(Debug)]
pub(super) struct NoColumn;

impl Display for NoColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that no column holds")
    }
}

impl std::error::Error for NoColumn {}

impl serde::ser::Error for NoColumn {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

/// Appends the first columns of a row to `out`.
pub(super) fn write(
    row: &impl Serialize,
    columns: usize,
    out: &mut Vec<u8>,
) -> Result<(), NoColumn> {
    let writer = RowBinary {
        out,
        columns_left: columns,
    };
    row.serialize(writer)
}

struct RowBinary<'o> {
    out: &'o mut Vec<u8>,
    /// Of the row itself; not of the values in it.
    columns_left: usize,
}

impl RowBinary<'_> {
    fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), NoColumn> {
        value.serialize(RowBinary {
            out: self.out,
            columns_left: 0,
        })
    }

    fn bytes(self, bytes: &[u8]) {
        length(self.out, bytes.len());
        self.out.extend_from_slice(bytes);
    }
}

/// LEB128.
fn length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let [low, ..] = length.to_le_bytes();
        length >>= 7;
        if length == 0 {
            out.push(low & 0x7F);
            return;
        }
        out.push(low | 0x80);
    }
}

macro_rules! numbers {
    ($($method:ident: $number:ty,)*) => {
        $(fn $method(self, number: $number) -> Result<(), NoColumn> {
            self.out.extend_from_slice(&number.to_le_bytes());
            Ok(())
        })*
    };
}

macro_rules! no_column {
    ($($method:ident($($argument:ty),*) -> $result:ty,)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<$result, NoColumn> {
            Err(NoColumn)
        })*
    };
}

impl Serializer for RowBinary<'_> {
    type Ok = ();
    type Error = NoColumn;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeStruct = Self;
    type SerializeTupleStruct = Impossible<(), NoColumn>;
    type SerializeTupleVariant = Impossible<(), NoColumn>;
    type SerializeMap = Impossible<(), NoColumn>;
    type SerializeStructVariant = Impossible<(), NoColumn>;

    numbers! {
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_f32: f32,
        serialize_f64: f64,
    }

    fn serialize_bool(self, value: bool) -> Result<(), NoColumn> {
        self.out.push(u8::from(value));
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Result<(), NoColumn> {
        self.bytes(text.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), NoColumn> {
        self.bytes(bytes);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), NoColumn> {
        self.out.push(1);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), NoColumn> {
        self.out.push(0);
        self.value(value)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        value: &T,
    ) -> Result<(), NoColumn> {
        self.value(value)
    }

    fn serialize_seq(self, values: Option<usize>) -> Result<Self, NoColumn> {
        length(self.out, values.ok_or(NoColumn)?);
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, NoColumn> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, NoColumn> {
        Ok(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    no_column! {
        serialize_char(char) -> (),
        serialize_unit() -> (),
        serialize_unit_struct(&'static str) -> (),
        serialize_unit_variant(&'static str, u32, &'static str) -> (),
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant,
        serialize_map(Option<usize>) -> Self::SerializeMap,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant,
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), NoColumn> {
        Err(NoColumn)
    }
}

impl SerializeStruct for RowBinary<'_> {
    type Ok = ();
    type Error = NoColumn;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        _: &'static str,
        value: &T,
    ) -> Result<(), NoColumn> {
        let Some(left) = self.columns_left.checked_sub(1) else {
            return Ok(());
        };
        self.columns_left = left;
        self.value(value)
    }

    fn end(self) -> Result<(), NoColumn> {
        Ok(())
    }
}

impl SerializeSeq for RowBinary<'_> {
    type Ok = ();
    type Error = NoColumn;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoColumn> {
        self.value(value)
    }

    fn end(self) -> Result<(), NoColumn> {
        Ok(())
    }
}

impl SerializeTuple for RowBinary<'_> {
    type Ok = ();
    type Error = NoColumn;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoColumn> {
        self.value(value)
    }

    fn end(self) -> Result<(), NoColumn> {
        Ok(())
    }
}
