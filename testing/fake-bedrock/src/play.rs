//! The order in which a stream happens: pure steps, which `body` carries out.
//!
//! Pacing and every way to break live here, so that they can be read and tested without a socket.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    answer::Frames,
    frame,
    script::{Break, InStream},
};

/// What a stream does next.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    Wait(Duration),
    Send(Bytes),
    /// The last event, whose content is only known when it is due.
    SendMetadata,
    /// End the connection without ending the body.
    Abort,
    /// Do nothing for ever.
    Hang,
    /// End the body.
    End,
}

/// How fast a stream is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Before the first event.
    pub(crate) first: Duration,
    /// Before each piece of text but the first.
    pub(crate) between: Duration,
    /// All events in one write.
    pub(crate) coalesce: bool,
}

/// A stream, step by step.
#[derive(Debug)]
pub(crate) struct Play {
    frames: Arc<Frames>,
    pace: Pace,
    broken: Option<(usize, InStream)>,
    /// How many events were sent; the metadata counts as the last one.
    sent: usize,
    spoken: bool,
    waited: bool,
    next: VecDeque<Step>,
    ended: bool,
}

/// A connection that is dropped at once may take unsent bytes with it: hyper flushes when the body has nothing to
/// say, and HTTP/2 forgets what is queued for a stream that is reset.
const FLUSH: Duration = Duration::from_millis(20);

impl Play {
    pub(crate) fn new(frames: Arc<Frames>, pace: Pace, broken: Option<InStream>) -> Play {
        let events = frames.events.len();
        let broken = broken.map(|broken| (place(&broken, events), broken));
        Play { frames, pace, broken, sent: 0, spoken: false, waited: false, next: VecDeque::new(), ended: false }
    }

    pub(crate) fn next(&mut self) -> Step {
        if self.next.front() == Some(&Step::Hang) {
            // It stays: bodies are polled again without a reason.
            return Step::Hang;
        }
        if let Some(step) = self.next.pop_front() {
            return step;
        }
        if self.ended {
            return Step::End;
        }
        if let Some((_, broken)) = self.broken.take_if(|(at, _)| *at == self.sent) {
            self.break_off(&broken);
            return self.next();
        }
        if let Some(delay) = self.delay() {
            return Step::Wait(delay);
        }
        self.waited = false;
        if self.pace.coalesce { self.send_many() } else { self.send_one() }
    }

    /// How many events come before the metadata.
    pub(crate) fn events(&self) -> usize {
        self.frames.events.len()
    }

    fn delay(&mut self) -> Option<Duration> {
        if std::mem::replace(&mut self.waited, true) {
            return None;
        }
        let delay = match self.frames.events.get(self.sent) {
            _ if self.sent == 0 => self.pace.first,
            Some(event) if event.is_paced && std::mem::replace(&mut self.spoken, true) => self.pace.between,
            _ => Duration::ZERO,
        };
        (!delay.is_zero()).then_some(delay)
    }

    fn send_one(&mut self) -> Step {
        let event = self.frames.events.get(self.sent).map(|event| event.bytes.clone());
        self.sent += 1;
        match event {
            Some(bytes) => Step::Send(bytes),
            None => {
                self.ended = true;
                Step::SendMetadata
            }
        }
    }

    fn send_many(&mut self) -> Step {
        let events = &self.frames.events;
        let to = self.broken.as_ref().map_or(events.len(), |(at, _)| (*at).min(events.len()));
        if self.sent >= to {
            return self.send_one();
        }
        let length = |events: &[crate::answer::Event]| events.iter().map(|event| event.bytes.len()).sum::<usize>();
        let from = length(&events[..self.sent]);
        let bytes = self.frames.all.slice(from..from + length(&events[self.sent..to]));
        self.sent = to;
        Step::Send(bytes)
    }

    fn break_off(&mut self, broken: &InStream) {
        let next_frame = self.frames.events.get(self.sent).map(|event| event.bytes.clone());
        let next_frame = || next_frame.clone().expect("`place` leaves a frame to spoil");
        let message = broken.message.as_deref();
        match broken.error {
            Break::Exception(kind) => {
                self.end_with([Step::Send(frame::exception(kind, message, broken.original_status))]);
            }
            Break::UnmodelledError => self.end_with([Step::Send(frame::unmodelled_error(message))]),
            Break::Cut => self.end_with([Step::Wait(FLUSH), Step::Abort]),
            Break::CutInsideFrame => {
                let frame = next_frame();
                let half = frame.slice(..frame.len() / 2);
                self.end_with([Step::Send(half), Step::Wait(FLUSH), Step::Abort]);
            }
            Break::BadChecksum => self.replace_next(frame::with_bad_checksum(&next_frame())),
            Break::BadPreludeChecksum => self.replace_next(frame::with_bad_prelude_checksum(&next_frame())),
            Break::AbsurdLength => self.next.push_back(Step::Send(frame::absurd_length())),
            Break::Hang => self.end_with([Step::Hang]),
            Break::EndWithoutStop | Break::EndWithoutMetadata => self.end_with([]),
        }
    }

    fn end_with<const N: usize>(&mut self, steps: [Step; N]) {
        self.next.extend(steps);
        self.ended = true;
    }

    fn replace_next(&mut self, frame: Bytes) {
        self.next.push_back(Step::Send(frame));
        self.sent += 1;
    }
}

/// After how many of `events` (without the metadata) a stream breaks.
fn place(broken: &InStream, events: usize) -> usize {
    let before_stop = events - 1;
    let wanted = broken.after_events.map_or(before_stop, |after| after as usize);
    match broken.error {
        Break::EndWithoutMetadata => events,
        // Such an end, or a frame to spoil, needs the stop still to come.
        Break::EndWithoutStop | Break::CutInsideFrame | Break::BadChecksum | Break::BadPreludeChecksum => {
            wanted.min(before_stop)
        }
        // Past the metadata nothing is left to happen to a client that has all it waits for.
        _ => wanted.min(events),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answer::{Answer, Block, Pieces},
        frame::StreamException,
    };

    /// messageStart, two deltas, contentBlockStop, messageStop: five events, and the metadata.
    fn frames() -> Arc<Frames> {
        let blocks = vec![Block::Text("one two".to_owned())];
        Arc::new(Answer { blocks, stop_reason: "end_turn", output_tokens: 2 }.frames(Pieces::Words))
    }

    /// One letter a step: s(end), w(ait), m(etadata), a(bort), h(ang), x: a frame that is none of the stream's.
    fn played(pace: Pace, broken: Option<InStream>) -> String {
        let frames = frames();
        let mut play = Play::new(Arc::clone(&frames), pace, broken);
        let mut steps = String::new();
        loop {
            steps.push(match play.next() {
                Step::Wait(_) => 'w',
                Step::Send(bytes) if frames.events.iter().any(|event| event.bytes == bytes) => 's',
                Step::Send(_) => 'x',
                Step::SendMetadata => 'm',
                Step::Abort => return steps + "a",
                Step::Hang => return steps + "h",
                Step::End => return steps,
            });
        }
    }

    #[test]
    fn a_stream_breaks_where_the_script_says() {
        let check = |broken: InStream, expected: &str| {
            assert_eq!(played(Pace::default(), Some(broken.clone())), expected, "{broken:?}");
        };
        let exception = Break::Exception(StreamException::Throttling);
        check(InStream::after(0, exception), "x");
        check(InStream::after(2, exception), "ssx");
        check(InStream::with(exception), "ssssx");
        check(InStream::after(99, exception), "sssssx");
        check(InStream::after(1, Break::UnmodelledError), "sx");
        check(InStream::after(1, Break::Cut), "swa");
        check(InStream::after(1, Break::CutInsideFrame), "sxwa");
        check(InStream::after(1, Break::BadChecksum), "sxsssm");
        check(InStream::after(99, Break::BadPreludeChecksum), "ssssxm");
        check(InStream::after(1, Break::AbsurdLength), "sxssssm");
        check(InStream::after(3, Break::Hang), "sssh");
        check(InStream::with(Break::EndWithoutStop), "ssss");
        check(InStream::after(99, Break::EndWithoutStop), "ssss");
        check(InStream::with(Break::EndWithoutMetadata), "sssss");
    }

    #[test]
    fn a_stream_that_hangs_does_so_for_ever() {
        let mut play = Play::new(frames(), Pace::default(), Some(InStream::after(0, Break::Hang)));
        for _ in 0..3 {
            assert_eq!(play.next(), Step::Hang);
        }
    }

    #[test]
    fn a_pace_waits_before_the_first_event_and_between_words() {
        let (first, between) = (Duration::from_secs(1), Duration::from_millis(10));
        assert_eq!(played(Pace::default(), None), "sssssm");
        assert_eq!(played(Pace { first, between, coalesce: false }, None), "wsswsssm");
    }

    #[test]
    fn a_coalesced_stream_is_written_in_one_piece_up_to_where_it_breaks() {
        let pace = Pace { coalesce: true, ..Pace::default() };
        assert_eq!(played(pace, None), "xm");
        assert_eq!(played(pace, Some(InStream::after(3, Break::Hang))), "xh");
        assert_eq!(played(pace, Some(InStream::after(2, Break::BadChecksum))), "xxxm");
        assert_eq!(played(pace, Some(InStream::with(Break::EndWithoutMetadata))), "x");
    }
}
