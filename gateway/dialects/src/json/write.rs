//! Writes JSON forwards, into one buffer.
//!
//! The writer sets the commas; closures make sure that every object is closed.

use super::Text;

#[derive(Debug, Default)]
pub(crate) struct Writer<R = ()> {
    out: String,
    /// What else the closures need.
    pub(crate) report: R,
}

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self::reporting(bytes, ())
    }

    /// Writes one object and returns it.
    pub(crate) fn document(bytes: usize, fill: impl FnOnce(&mut Self)) -> String {
        Self::with_capacity(bytes).filled(fill)
    }
}

impl<R> Writer<R> {
    pub(crate) fn reporting(bytes: usize, report: R) -> Self {
        let out = String::with_capacity(bytes);
        Self { out, report }
    }

    /// Writes one object and returns it.
    pub(crate) fn filled(mut self, fill: impl FnOnce(&mut Self)) -> String {
        self.object(fill);
        self.out
    }

    pub(crate) fn into_string(self) -> String {
        self.out
    }

    /// Adds text that is not JSON: the frame around a value.
    pub(crate) fn verbatim(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// An event of a stream, whose data repeats its name.
    pub(crate) fn event(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.verbatim("event: ");
        self.verbatim(name);
        self.verbatim("\ndata: ");
        self.typed(name, fill);
        self.verbatim("\n\n");
    }

    // Values.

    pub(crate) fn value(&mut self, value: impl ToJson) {
        self.comma();
        value.write_to(&mut self.out);
    }

    /// A value that is JSON already.
    pub(crate) fn raw(&mut self, json: &str) {
        self.comma();
        self.out.push_str(json);
    }

    pub(crate) fn object<T>(&mut self, fill: impl FnOnce(&mut Self) -> T) -> T {
        self.comma();
        self.out.push('{');
        let filled = fill(self);
        self.out.push('}');
        filled
    }

    pub(crate) fn array<T>(&mut self, fill: impl FnOnce(&mut Self) -> T) -> T {
        self.comma();
        self.out.push('[');
        let filled = fill(self);
        self.out.push(']');
        filled
    }

    /// An object that begins with its type, which is a constant and needs no escapes.
    pub(crate) fn typed<T>(&mut self, kind: &str, fill: impl FnOnce(&mut Self) -> T) -> T {
        self.object(|w| {
            w.put("type", Text::escaped(kind));
            fill(w)
        })
    }

    // Entries of an object. Keys are constants and need no escapes.

    pub(crate) fn key(&mut self, key: &str) {
        let quote = if self.needs_comma() { ",\"" } else { "\"" };
        self.out.push_str(quote);
        self.out.push_str(key);
        self.out.push_str("\":");
    }

    pub(crate) fn put(&mut self, key: &str, value: impl ToJson) {
        self.key(key);
        value.write_to(&mut self.out);
    }

    /// An entry that is left out if there is no value.
    pub(crate) fn put_some(&mut self, key: &str, value: Option<impl ToJson>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    pub(crate) fn put_object<T>(&mut self, key: &str, fill: impl FnOnce(&mut Self) -> T) -> T {
        self.key(key);
        self.object(fill)
    }

    pub(crate) fn put_array<T>(&mut self, key: &str, fill: impl FnOnce(&mut Self) -> T) -> T {
        self.key(key);
        self.array(fill)
    }

    /// A list, with what `write` writes for each of the items.
    pub(crate) fn put_each<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.put_array(key, |w| items.into_iter().for_each(|item| write(w, item)));
    }

    /// A list that is left out if it is empty.
    pub(crate) fn put_list(&mut self, key: &str, values: &[impl ToJson]) {
        if !values.is_empty() {
            self.put_each(key, values, |w, value| w.value(value));
        }
    }

    pub(crate) fn put_raw(&mut self, key: &str, json: &str) {
        self.key(key);
        self.out.push_str(json);
    }

    pub(crate) fn put_null(&mut self, key: &str) {
        self.put_raw(key, "null");
    }

    fn comma(&mut self) {
        if self.needs_comma() {
            self.out.push(',');
        }
    }

    /// Whether this is neither the first entry of an object or array, nor follows a key.
    fn needs_comma(&self) -> bool {
        !matches!(
            self.out.as_bytes().last(),
            None | Some(b'{' | b'[' | b':' | b' ' | b'\n')
        )
    }
}

/// A value that can be written as JSON.
pub(crate) trait ToJson {
    fn write_to(&self, out: &mut String);
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn write_to(&self, out: &mut String) {
        (**self).write_to(out);
    }
}

/// `null` if there is none.
impl<T: ToJson> ToJson for Option<T> {
    fn write_to(&self, out: &mut String) {
        match self {
            Some(value) => value.write_to(out),
            None => out.push_str("null"),
        }
    }
}

impl ToJson for Text<'_> {
    fn write_to(&self, out: &mut String) {
        out.push('"');
        out.push_str(self.as_escaped());
        out.push('"');
    }
}

impl ToJson for str {
    fn write_to(&self, out: &mut String) {
        Text::plain(self).write_to(out);
    }
}

impl ToJson for bool {
    fn write_to(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl ToJson for i64 {
    fn write_to(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
}

impl ToJson for f64 {
    fn write_to(&self, out: &mut String) {
        let number = serde_json::Number::from_f64(*self);
        out.push_str(&number.map_or_else(|| "null".to_owned(), |number| number.to_string()));
    }
}

impl ToJson for u64 {
    fn write_to(&self, out: &mut String) {
        let (mut number, mut digits, mut at) = (*self, [0_u8; 20], 20);
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
            if number == 0 {
                break;
            }
        }
        out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or("0"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_are_where_they_belong() {
        let json = Writer::document(64, |w| {
            w.put("a", "q\"");
            w.put_array("b", |w| {
                w.value(0_u64);
                w.object(|_| {});
                w.object(|w| w.put("t", true));
                w.value("{");
                w.array(|w| w.value(u64::MAX));
            });
            w.put("c", 0.5);
            w.put_object("d", |w| w.put("e", f64::NAN));
        });
        assert_eq!(
            json,
            r#"{"a":"q\"","b":[0,{},{"t":true},"{",[18446744073709551615]],"c":0.5,"d":{"e":null}}"#
        );
    }

    #[test]
    fn frames_stand_around_values() {
        let mut writer = Writer::with_capacity(64);
        for _ in 0..2 {
            writer.verbatim("data: ");
            writer.object(|w| w.put("n", 1_u64));
            writer.verbatim("\n\n");
        }
        assert_eq!(
            writer.into_string(),
            "data: {\"n\":1}\n\ndata: {\"n\":1}\n\n"
        );
    }
}
