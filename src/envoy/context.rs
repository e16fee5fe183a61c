//! What the host tells of one HTTP stream, and what it is told to do with its messages.

/// What becomes of the part of a message that the host has just handed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(super) enum Action {
    /// It goes on.
    Continue = 0,
    /// It is held, until the filter lets it go or answers. What follows is handed over as it comes.
    Pause = 1,
    /// The request's headers are held, and Envoy keeps what follows to itself until they go on: no further than its
    /// buffer goes, and then it stops reading (`StopAllIterationAndWatermark`).
    PauseAll = 4,
}

/// One stream, from its first field to its last word.
pub(super) trait HttpContext {
    /// The request's fields are there; `end_of_stream` says that nothing follows them.
    fn on_request_headers(&mut self, end_of_stream: bool) -> Action;

    /// The host's buffer has `size` bytes of the request's body.
    fn on_request_body(&mut self, size: usize, end_of_stream: bool) -> Action;

    /// The request's body has ended, with trailers.
    fn on_request_trailers(&mut self) -> Action;

    /// The response's fields are there, so many of them: the upstream's, or those of a local reply.
    fn on_response_headers(&mut self, fields: usize, end_of_stream: bool) -> Action;

    /// The host's buffer has `size` bytes of the response's body.
    fn on_response_body(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        Action::Continue
    }

    /// The response's body has ended, with trailers.
    fn on_response_trailers(&mut self) -> Action {
        Action::Continue
    }

    /// The last word on every stream, whoever ended it. Called once.
    fn on_log(&mut self);
}
