//! What is made to fail during a step, and whether its answer is what is expected then.

use hl_mem::uapi::Errno;

use super::super::model::Expected;
use super::super::operations::Failure;
use super::Epoch;
use crate::asic::Completion;
use crate::host::HostFailure;
use crate::machine;

impl<A: machine::Model> Epoch<'_, '_, '_, A> {
    pub(super) fn arm(&self, failure: Option<Failure>) {
        use crate::asic::Operation::Invalidation;
        let step = |what: core::fmt::Arguments<'_>| self.scribe.step(format_args!("fail {what}"));
        match failure {
            None => {}
            Some(Failure::Page(nth)) => step(format_args!("alloc {nth}")),
            Some(Failure::Pin(nth)) => step(format_args!("pin {nth}")),
            Some(Failure::Invalidation(nth)) => step(format_args!("invalidate {nth} timeout")),
            Some(Failure::Invalidations(nth)) => {
                step(format_args!("invalidate {nth} timeout times max"));
            }
        }
        let (host, asic) = (&self.machine.host, &self.machine.asic);
        match failure {
            None => {}
            Some(Failure::Page(nth)) => host.fail(HostFailure::FrameAllocation, Some(nth)),
            Some(Failure::Pin(nth)) => host.fail(HostFailure::Pin, Some(nth)),
            Some(Failure::Invalidation(nth)) => {
                asic.inject(Invalidation, nth, 1, Completion::Never);
            }
            Some(Failure::Invalidations(nth)) => {
                asic.inject(Invalidation, nth, u64::MAX, Completion::Never);
            }
        }
    }

    pub(super) fn disarm(&self) {
        self.scribe.step("fail nothing");
        self.machine.host.fail(HostFailure::FrameAllocation, None);
        self.machine.host.fail(HostFailure::Pin, None);
        self.machine.asic.clear_injections();
    }

    /// Compares an answer with what was expected, and counts it.
    pub(super) fn check<T>(
        &mut self,
        expected: Expected,
        failure: Option<Failure>,
        got: &Result<T, Errno>,
    ) -> Result<(), String> {
        self.scribe.expected(expected);
        let got = got.as_ref().map(drop).map_err(|errno| *errno);
        match got {
            Ok(()) => self.summary.done += 1,
            Err(errno) => {
                self.summary.refused += 1;
                self.summary.failures += u64::from(failure.is_some() && errno != Errno::EINVAL);
            }
        }
        let as_expected = match (expected, got) {
            (Expected::Done | Expected::Either(_), Ok(())) => true,
            (Expected::Refused(wanted) | Expected::Either(wanted), Err(errno)) => errno == wanted,
            _ => false,
        };
        if as_expected {
            Ok(())
        } else {
            Err(format!("the answer is {got:?} and should be {expected:?}"))
        }
    }

    /// What is expected of something that is mapped for the device where its invalidation may fail.
    pub(super) fn announced(expected: Expected, failure: Option<Failure>) -> Expected {
        match (expected, failure) {
            (Expected::Done, Some(Failure::Invalidation(_) | Failure::Invalidations(_))) => {
                Expected::Either(Errno::ETIMEDOUT)
            }
            (expected, _) => expected,
        }
    }

    /// What is in quarantine: mappings of a file, and buffers of the device.
    pub(super) fn quarantined(&self, user: usize) -> Result<(u32, u32), String> {
        let buffers = self.machine.device.usage().buffers.quarantined;
        Ok((self.context(user)?.usage().quarantined, buffers))
    }
}
