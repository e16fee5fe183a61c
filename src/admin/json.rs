//! JSON as answers are made of it: flat objects, written by hand, because derives take several times the room in the
//! module.

/// An object that is being written.
#[derive(Debug)]
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        Self(String::from("{"))
    }

    pub(super) fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        push_text(&mut self.0, value);
        self
    }

    pub(super) fn number(mut self, name: &str, value: u64) -> Self {
        self.name(name);
        self.0.push_str(&value.to_string());
        self
    }

    pub(super) fn object(mut self, name: &str, value: Self) -> Self {
        self.name(name);
        self.0.push_str(&value.finish());
        self
    }

    pub(super) fn texts(mut self, name: &str, values: impl IntoIterator<Item = String>) -> Self {
        self.name(name);
        self.0.push('[');
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.0.push(',');
            }
            push_text(&mut self.0, &value);
        }
        self.0.push(']');
        self
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        push_text(&mut self.0, name);
        self.0.push(':');
    }
}

/// Appends a string (RFC 8259, section 7).
fn push_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            // No field that is written has a meaningful control character.
            control if control.is_ascii_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out.push('"');
}
