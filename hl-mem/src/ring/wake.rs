//! What an end that asked to be woken does next.

/// Says whether an end that asked to be woken may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "an end that is not armed would sleep for ever"]
pub enum WakeRequest {
    /// What was asked for is there already, and the peer may have passed it without noticing the
    /// request: do not sleep.
    Ready,
    /// The peer will find the request when it gets there: sleep until it rings.
    Armed,
}
