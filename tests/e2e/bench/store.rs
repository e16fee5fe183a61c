//! In which store the filter of a scenario keeps its records (contract, section 6).

use std::cell::Cell;

use serde_json::{Value, json};

use super::dynamodb::{DYNAMODB_CLUSTER, TABLE};
use super::postgres::{DATABASE, PASSWORD, ROLE};
use super::transport::{POSTGRES_CLUSTER, REDIS_CLUSTER, Transport};

/// Where records are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Store {
    DynamoDb,
    Postgres,
    Redis(Transport),
    SharedData,
}

thread_local! {
    /// A scenario runs on one thread, and all scenarios use shared data unless they are told otherwise.
    static CURRENT: Cell<Store> = const { Cell::new(Store::SharedData) };
}

impl Store {
    /// Runs `scenario` with this store as that of every configuration that does not name one.
    pub(crate) fn run(self, scenario: fn()) {
        let before = CURRENT.replace(self);
        scenario();
        CURRENT.set(before);
    }

    pub(crate) fn current() -> Self {
        CURRENT.get()
    }

    /// `configuration`, with this store unless it names another.
    pub(super) fn apply(self, mut configuration: Value) -> Value {
        let (name, defaults) = match self {
            Self::DynamoDb => ("dynamodb", json!({ "cluster": DYNAMODB_CLUSTER, "table": TABLE })),
            Self::Postgres => (
                "postgres",
                json!({
                    "cluster": POSTGRES_CLUSTER,
                    "database": DATABASE,
                    "username": ROLE,
                    "password": PASSWORD,
                    "max_record": "16MiB",
                }),
            ),
            Self::Redis(transport) => (
                "redis",
                json!({
                    "cluster": REDIS_CLUSTER,
                    "max_record": transport.max_record(),
                    "connections": transport.connections(),
                }),
            ),
            Self::SharedData => return configuration,
        };
        if let Some(keys) = configuration.as_object_mut() {
            let store = keys.entry("store").or_insert_with(|| json!({ name: {} }));
            if let (Some(store), Some(defaults)) =
                (store.get_mut(name).and_then(Value::as_object_mut), defaults.as_object())
            {
                for (key, value) in defaults {
                    store.entry(key).or_insert_with(|| value.clone());
                }
                // What a busy machine may make of it is no error of the store.
                store.entry("timeout").or_insert(json!("10s"));
            }
        }
        configuration
    }
}

/// Makes of each scenario of the file other tests, in which records are kept elsewhere: in PostgreSQL, in DynamoDB, and in
/// Redis over raw TCP and over persistent connections for those named `direct`, over pooled ones for those named `pooled`.
macro_rules! also_on_remote_stores {
    (direct: { $($direct:ident),* $(,)? } $(pooled: { $($pooled:ident),* $(,)? })?) => {
        mod redis_direct {
            $(
                #[test]
                fn $direct() {
                    use $crate::bench::{Store, Transport};

                    Store::Redis(Transport::Direct).run(super::$direct);
                }
            )*
        }

        mod dynamodb {
            $(
                #[test]
                fn $direct() {
                    $crate::bench::Store::DynamoDb.run(super::$direct);
                }
            )*
        }

        mod postgres {
            $(
                #[test]
                fn $direct() {
                    use $crate::bench::Store;

                    Store::Postgres.run(super::$direct);
                }
            )*
        }

        mod redis_streams {
            $(
                #[test]
                fn $direct() {
                    use $crate::bench::{Store, Transport};

                    Store::Redis(Transport::Streams).run(super::$direct);
                }
            )*
        }

        $(
            mod redis_pooled {
                $(
                    #[test]
                    fn $pooled() {
                        use $crate::bench::{Store, Transport};

                        Store::Redis(Transport::Pooled).run(super::$pooled);
                    }
                )*
            }
        )?
    };
}

pub(crate) use also_on_remote_stores;
