//! How a connection is let in: it says who it is, proves it as the server asks, and finds out whether the server takes
//! writes.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{
    failure::PostgresError,
    message::{self, Message, MessageError, READY},
    scram::{Credentials, Scram, ScramError},
};
use crate::store::{
    StoreError,
    dialect::{Login, LoginStep, Unwelcome},
};

/// A login under way.
#[derive(Clone, Debug)]
pub(super) struct PostgresLogin {
    credentials: Option<Arc<Credentials>>,
    random: u128,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Waits for the server to say how it wants the password.
    Unproven,
    /// Waits for both sides to prove that they know it.
    Proving(Scram),
    /// The server has.
    Proven,
    LetIn,
}

impl PostgresLogin {
    /// `random` is a number that nobody can guess, and that no other login has.
    pub(super) fn new(credentials: Option<Arc<Credentials>>, random: u128) -> Self {
        Self { credentials, random, stage: Stage::Unproven }
    }

    /// Takes in a request for a proof, or the end of such.
    fn authenticate(&mut self, body: &[u8]) -> Result<LoginStep, PostgresError> {
        let (kind, says) = body.split_first_chunk().ok_or(PostgresError::Malformed)?;
        match (u32::from_be_bytes(*kind), &mut self.stage) {
            (OK, Stage::Unproven | Stage::Proven) => {
                self.stage = Stage::LetIn;
                Ok(LoginStep::Listen)
            }
            (OK, _) => Err(PostgresError::Impostor),
            (CLEARTEXT, Stage::Unproven) => Ok(LoginStep::Say(message::password(self.credentials()?.password()))),
            (SASL, Stage::Unproven) => {
                if !says.split(|byte| *byte == 0).any(|name| name == MECHANISM) {
                    return Err(PostgresError::Method);
                }
                // As long as those of PostgreSQL's own clients.
                let nonce: [u8; 32] = Sha256::digest(self.random.to_le_bytes()).into();
                let scram = Scram::new(self.credentials()?, nonce.get(..18).unwrap_or_default());
                let first = message::sasl_begin(MECHANISM, scram.first().as_bytes());
                self.stage = Stage::Proving(scram);
                Ok(LoginStep::Say(first))
            }
            (SASL_CONTINUE, Stage::Proving(scram)) => Ok(LoginStep::Say(message::sasl(scram.prove(says)?.as_bytes()))),
            (SASL_FINAL, Stage::Proving(scram)) => {
                scram.verify(says)?;
                self.stage = Stage::Proven;
                Ok(LoginStep::Listen)
            }
            (_, Stage::Unproven) => Err(PostgresError::Method),
            _ => Err(PostgresError::Malformed),
        }
    }

    fn credentials(&self) -> Result<Arc<Credentials>, PostgresError> {
        self.credentials.clone().ok_or(PostgresError::PasswordMissing)
    }
}

impl Login for PostgresLogin {
    fn hear(&mut self, bytes: &[u8]) -> Result<(usize, LoginStep), Unwelcome> {
        let unwelcome = |error: PostgresError| Unwelcome::from(StoreError::from(error));
        let (message, rest) = match Message::split(bytes) {
            Ok(split) => split,
            Err(MessageError::Cut) if bytes.len() <= LONGEST => return Ok((0, LoginStep::Listen)),
            Err(_) => return Err(unwelcome(PostgresError::Malformed)),
        };
        let step = match (message.kind, &self.stage) {
            (message::ERROR, _) => {
                return Err(message.error().unwrap_or_default().of_login());
            }
            (b'R', _) => self.authenticate(message.body).map_err(unwelcome)?,
            (b'S', Stage::LetIn) if message.body == STANDBY => {
                return Err(Unwelcome { error: PostgresError::ReadOnly.into(), others_may_welcome: true });
            }
            (b'K' | b'S', Stage::LetIn) | (b'N', _) => LoginStep::Listen,
            (READY, Stage::LetIn) => LoginStep::Welcome,
            _ => return Err(unwelcome(PostgresError::Malformed)),
        };
        Ok((bytes.len() - rest.len(), step))
    }

    fn boxed(&self) -> Box<dyn Login> {
        Box::new(self.clone())
    }
}

impl From<ScramError> for PostgresError {
    fn from(error: ScramError) -> Self {
        match error {
            ScramError::Impostor => Self::Impostor,
            ScramError::Malformed => Self::Malformed,
        }
    }
}

// Kinds of `Authentication…` messages.
const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

const MECHANISM: &[u8] = b"SCRAM-SHA-256";

/// What a standby says of itself since PostgreSQL 14.
const STANDBY: &[u8] = b"in_hot_standby\0on\0";

/// No message of a login is as long.
const LONGEST: usize = 64 << 10;

#[cfg(test)]
mod tests;
