//! Why DynamoDB could not do what it was asked, told apart by what Envoy and AWS say.

use crate::{config::Node, record::CodecError, store::dialect::Failure};

/// What went wrong, and what an operator can do about it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DynamoDbError {
    /// The signature is good, and may not do this.
    #[error("AWS denies the call: the policy of the role needs what docs/dynamodb.md lists, on this table")]
    Denied,
    /// There was no signature.
    #[error(
        "Envoy sent a call to DynamoDB unsigned: store.dynamodb.cluster lacks the upstream filter aws_request_signing, or \
         Envoy has found no credentials (docs/dynamodb.md)"
    )]
    Unsigned,
    /// There was a wrong one.
    #[error(
        "AWS does not accept the signature: check the credentials, the region and service_name dynamodb of \
         aws_request_signing, and that the clock of this machine is right"
    )]
    Signature,
    /// Another write of the same item was under way.
    #[error("another write of the same item was under way in DynamoDB")]
    Conflict,
    /// Something else is stored under the key.
    #[error("an item of store.dynamodb.table is not one that idemgate wrote; give it a table of its own")]
    Foreign,
    /// AWS says that it failed.
    #[error("DynamoDB had an error of its own; it should pass by itself")]
    Internal,
    /// What came back is no reply of DynamoDB.
    #[error("what answers in place of DynamoDB does not speak its API: check what store.dynamodb.cluster leads to")]
    Malformed,
    /// The table is not there.
    #[error("there is no table store.dynamodb.table: check its name, and the region and account that Envoy signs for")]
    NoTable,
    /// It has another key.
    #[error("store.dynamodb.table is not as docs/dynamodb.md has it: its only key has to be k, of type B (binary)")]
    WrongKey,
    /// Envoy did not make the call.
    #[error(
        "Envoy cannot call store.dynamodb.cluster: there is no such cluster or no host in it, or its circuit breaker is \
         open (raise max_connections and max_pending_requests)"
    )]
    Rejected,
    /// AWS does not understand it.
    #[error("DynamoDB does not understand what it is asked: this is an error of idemgate's, or of a proxy on the way")]
    Request,
    /// The connection broke before the reply was there.
    #[error("the connection to DynamoDB broke before it answered")]
    Reset,
    /// There is no capacity left.
    #[error(
        "DynamoDB throttles: the table, or one of its partitions, has less capacity than is asked of it; raise it, or use \
         on-demand capacity"
    )]
    Throttled,
    /// No reply in time.
    #[error("DynamoDB did not answer within store.dynamodb.timeout")]
    TimedOut,
    /// The item would be more than 400 KB, or the call more than Envoy's buffer holds.
    #[error(
        "a record is too large: lower store.dynamodb.max_record, or raise per_connection_buffer_limit_bytes of \
         store.dynamodb.cluster"
    )]
    TooLarge,
    /// No connection.
    #[error("DynamoDB cannot be reached: check the hosts of store.dynamodb.cluster, its TLS, and the network")]
    Unreachable,
    /// A record that this release cannot read.
    #[error("a record cannot be read: {0}; let the older release's records expire, or use another table")]
    Unreadable(CodecError),
}

impl DynamoDbError {
    /// The word by which metrics and logs tell it from others.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Denied | Self::Signature | Self::Unsigned => "authentication",
            Self::Conflict => "contended",
            Self::Foreign => "foreign",
            Self::Internal => "internal",
            Self::Malformed => "malformed",
            Self::NoTable | Self::WrongKey => "schema",
            Self::Rejected => "rejected",
            Self::Request | Self::TooLarge => "rejected_request",
            Self::Reset => "reset",
            Self::Throttled => "throttled",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// The name of an error of the service, behind the name of the service's API.
    pub(super) fn name(body: &Node) -> &str {
        let name = body.get("__type").and_then(Node::text).unwrap_or_default();
        let name = name.rsplit('#').next().unwrap_or_default();
        name.split(':').next().unwrap_or_default()
    }
}

impl Failure {
    /// What Envoy, or something else on the way, says in place of DynamoDB.
    pub(super) fn of_proxy(status: u16, text: &[u8]) -> Self {
        let says = |words: &str| says(text, words);
        match status {
            // Reasons that precede the request; over TLS also a certificate that does not fit.
            503 if ["connection failure", "connection timeout", "no healthy upstream"].into_iter().any(says) => {
                Self::certain(DynamoDbError::Unreachable)
            }
            503 if says("overflow") => Self::certain(DynamoDbError::Rejected),
            503 => Self::doubtful(DynamoDbError::Reset),
            504 => Self::doubtful(DynamoDbError::TimedOut),
            // Envoy holds what it signs until all of it is there.
            413 => Self::certain(DynamoDbError::TooLarge),
            _ => Self::doubtful(DynamoDbError::Malformed),
        }
    }

    /// What an error of DynamoDB says. Whatever is the caller's own doing is refused before anything is done.
    ///
    /// Names of <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_PutItem.html#API_PutItem_Errors>, which are
    /// all that `UpdateItem`, `GetItem` and `DescribeTable` have as well, of its `CommonErrors.html`, and of
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>.
    pub(super) fn of_service(body: &Node) -> Self {
        let text = body.get("message").or_else(|| body.get("Message")).and_then(Node::text).unwrap_or_default();
        let error = match DynamoDbError::name(body) {
            "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded"
            | "LimitExceededException"
            | "ThrottlingException" => DynamoDbError::Throttled,
            "AccessDeniedException" | "NotAuthorized" | "OptInRequired" => DynamoDbError::Denied,
            "MissingAuthenticationToken" | "MissingAuthenticationTokenException" => DynamoDbError::Unsigned,
            "ExpiredTokenException"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "RequestExpired"
            | "UnrecognizedClientException" => DynamoDbError::Signature,
            "ResourceNotFoundException" => DynamoDbError::NoTable,
            // Only of a table with a local secondary index, and so with a sort key.
            "ItemCollectionSizeLimitExceededException" => DynamoDbError::WrongKey,
            "RequestEntityTooLargeException" => DynamoDbError::TooLarge,
            "ReplicatedWriteConflictException" | "TransactionConflictException" => DynamoDbError::Conflict,
            "ValidationException" | "ValidationError" => match text {
                text if text.contains("size") => DynamoDbError::TooLarge,
                text if text.contains(" key") => DynamoDbError::WrongKey,
                _ => DynamoDbError::Request,
            },
            "MalformedHttpRequestException" | "SerializationException" | "UnknownOperationException" => {
                DynamoDbError::Request
            }
            "" => return Self::doubtful(DynamoDbError::Malformed),
            // InternalServerError, InternalFailure, ServiceUnavailable, RequestAbortedException, RequestTimeoutException, and
            // whatever is new: it may have been done.
            _ => return Self::doubtful(DynamoDbError::Internal),
        };
        Self::certain(error)
    }
}

fn says(text: &[u8], words: &str) -> bool {
    text.windows(words.len()).any(|window| window == words.as_bytes())
}
