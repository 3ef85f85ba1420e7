//! Writes JSON forwards, into one buffer.
//!
//! Commas are the writer's; that every object is closed is seen to by closures.

use super::Text;

#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: String,
}

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            out: String::with_capacity(bytes),
        }
    }

    /// Writes one object and returns it.
    pub(crate) fn document(bytes: usize, fill: impl FnOnce(&mut Self)) -> String {
        let mut writer = Self::with_capacity(bytes);
        writer.object(fill);
        writer.out
    }

    pub(crate) fn into_string(self) -> String {
        self.out
    }

    /// Adds what is no JSON value: the frame around one.
    pub(crate) fn verbatim(&mut self, text: &str) {
        self.out.push_str(text);
    }

    // Values.

    pub(crate) fn object(&mut self, fill: impl FnOnce(&mut Self)) {
        self.comma();
        self.out.push('{');
        fill(self);
        self.out.push('}');
    }

    pub(crate) fn array(&mut self, fill: impl FnOnce(&mut Self)) {
        self.comma();
        self.out.push('[');
        fill(self);
        self.out.push(']');
    }

    pub(crate) fn text(&mut self, text: &Text<'_>) {
        self.comma();
        self.out.push('"');
        self.out.push_str(text.as_escaped());
        self.out.push('"');
    }

    // Entries of an object. Keys are ours and need no escapes.

    pub(crate) fn key(&mut self, key: &str) {
        self.comma();
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
    }

    pub(crate) fn put_object(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.key(key);
        self.object(fill);
    }

    pub(crate) fn put_array(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.key(key);
        self.array(fill);
    }

    pub(crate) fn put_raw(&mut self, key: &str, json: &str) {
        self.key(key);
        self.out.push_str(json);
    }

    pub(crate) fn put_text(&mut self, key: &str, text: &Text<'_>) {
        self.key(key);
        self.text(text);
    }

    /// Text that needs no escapes.
    pub(crate) fn put_str(&mut self, key: &str, text: &str) {
        self.key(key);
        self.text(&Text::plain(text));
    }

    pub(crate) fn put_u64(&mut self, key: &str, number: u64) {
        self.key(key);
        self.number(number);
    }

    pub(crate) fn put_i64(&mut self, key: &str, number: i64) {
        self.put_raw(key, &number.to_string());
    }

    pub(crate) fn put_f64(&mut self, key: &str, number: f64) {
        match serde_json::Number::from_f64(number) {
            Some(number) => self.put_raw(key, &number.to_string()),
            None => self.put_null(key),
        }
    }

    pub(crate) fn put_bool(&mut self, key: &str, flag: bool) {
        self.put_raw(key, if flag { "true" } else { "false" });
    }

    pub(crate) fn put_null(&mut self, key: &str) {
        self.put_raw(key, "null");
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        self.comma();
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.out
            .push_str(std::str::from_utf8(&digits[at..]).unwrap_or("0"));
    }

    /// A comma, unless this is the first thing in its object or array, or stands after a key.
    fn comma(&mut self) {
        if !matches!(
            self.out.as_bytes().last(),
            None | Some(b'{' | b'[' | b':' | b' ' | b'\n')
        ) {
            self.out.push(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_are_where_they_belong() {
        let json = Writer::document(64, |w| {
            w.put_str("a", "q\"");
            w.put_array("b", |w| {
                w.number(0);
                w.object(|_| {});
                w.object(|w| w.put_bool("t", true));
                w.text(&Text::plain("{"));
                w.array(|w| w.number(u64::MAX));
            });
            w.put_f64("c", 0.5);
            w.put_object("d", |w| w.put_f64("e", f64::NAN));
        });
        assert_eq!(
            json,
            r#"{"a":"q\"","b":[0,{},{"t":true},"{",[18446744073709551615]],"c":0.5,"d":{"e":null}}"#
        );
    }

    #[test]
    fn frames_stand_around_values() {
        let mut writer = Writer::default();
        for _ in 0..2 {
            writer.verbatim("data: ");
            writer.object(|w| w.put_u64("n", 1));
            writer.verbatim("\n\n");
        }
        assert_eq!(
            writer.into_string(),
            "data: {\"n\":1}\n\ndata: {\"n\":1}\n\n"
        );
    }
}
