//! In which of the two modes of execution a scenario runs (contract, section 5).

use std::cell::Cell;

use serde_json::{Value, json};

/// How the filter executes what it lets through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Detached,
    Inline,
}

thread_local! {
    /// A scenario runs on one thread, and all scenarios run inline unless they are told otherwise.
    static CURRENT: Cell<Mode> = const { Cell::new(Mode::Inline) };
}

impl Mode {
    /// Runs `scenario` with this mode as the default of every configuration that does not name one.
    pub(crate) fn run(self, scenario: fn()) {
        let before = CURRENT.replace(self);
        scenario();
        CURRENT.set(before);
    }

    pub(crate) fn current() -> Self {
        CURRENT.get()
    }

    /// `configuration`, in the current mode.
    pub(super) fn apply(configuration: &Value) -> Value {
        let mut configuration = configuration.clone();
        if let (Self::Detached, Some(keys)) = (Self::current(), configuration.as_object_mut()) {
            let execution = keys.entry("execution").or_insert_with(|| json!({}));
            if let Some(execution) = execution.as_object_mut() {
                execution.entry("mode").or_insert_with(|| json!("detached"));
            }
        }
        configuration
    }
}

/// Makes of each scenario of the file another test, in which it runs detached.
macro_rules! also_detached {
    ($($scenario:ident),* $(,)?) => {
        mod detached {
            $(
                #[test]
                fn $scenario() {
                    $crate::bench::Mode::Detached.run(super::$scenario);
                }
            )*
        }
    };
}

pub(crate) use also_detached;
