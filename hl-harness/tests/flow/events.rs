//! What users are told: faults, and that the device is lost and back.

use hl_harness::machine::Model;
use hl_mem::budget::Budget;
use hl_mem::events::{DeviceEvent, Report};

use crate::rig::{machine, on_each_asic, user_mode, with_file};

on_each_asic!(
    faults_and_recovery_are_told_to_the_users_who_are_there,
    an_engine_that_faults_on_and_on_holds_nobody_up_and_hides_nothing,
);

fn faults_and_recovery_are_told_to_the_users_who_are_there<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, context, {
            assert_eq!(context.next_event(), None);
            let engine = machine
                .asic
                .add_initiator("stray", user_mode(context.asid()));
            let nowhere = A::PROFILE.host.range.start().checked_add(0x5000).unwrap();
            machine.asic.read(engine, nowhere, &mut [0; 8]).unwrap_err();
            let mut logged = Vec::new();
            let reported = machine
                .device
                .report_faults(|fault| logged.push(fault))
                .unwrap();
            assert!(reported.wake && logged.len() == 1);
            assert_eq!(reported.taken, 1);
            let told = context.next_event().unwrap();
            let event = DeviceEvent::Fault(logged[0]);
            assert_eq!(told, Report::Event { sequence: 0, event });
            assert!(logged[0].at.unwrap().contains(nowhere));
            // It stays until it was handed over.
            assert_eq!(context.next_event(), Some(told));
            context.confirm_event(&told).unwrap();
            assert!(context.confirm_event(&told).is_err());
            assert_eq!(context.next_event(), None);
            // More than are kept are counted.
            for _ in 0..20 {
                machine.device.post(event);
            }
            let mut lost = 0;
            while let Some(told) = context.next_event() {
                context.confirm_event(&told).unwrap();
                if let Report::Lost { count, .. } = told {
                    lost += count.get();
                }
            }
            assert_eq!(lost, 20 - hl_harness::machine::EVENTS as u64);
            machine.device.post(DeviceEvent::ContextAborted);
        });
        // The next user of the address space is not told what was for the one before.
        with_file!(machine, context, {
            assert_eq!(context.next_event(), None);
        });
    });
}

/// The engine of one user is at an address that is not mapped whenever the driver looks.
fn an_engine_that_faults_on_and_on_holds_nobody_up_and_hides_nothing<A: Model>() {
    machine::<A>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let (mut one, mut two) = (machine.storage(), machine.storage());
        let user = machine.open(&process, &budget, &mut one).unwrap();
        let other = machine.open(&process, &budget, &mut two).unwrap();
        let engine = machine.asic.add_initiator("spin", user_mode(user.asid()));
        let nowhere = A::PROFILE.host.range.start().checked_add(0x5000).unwrap();
        let spin = || machine.asic.read(engine, nowhere, &mut [0; 8]).unwrap_err();
        spin();
        let mut looks = 0;
        for _ in 0..20 {
            let reported = machine.device.report_faults(|_| {
                looks += 1;
                assert!(looks < 100, "it does not end");
                spin();
            });
            assert_eq!(reported.unwrap().taken, 1);
        }
        machine.device.post(DeviceEvent::DeviceLost);
        let mut told = Vec::new();
        while let Some(report) = other.next_event() {
            other.confirm_event(&report).unwrap();
            if let Report::Event { event, .. } = report {
                told.push(event);
            }
        }
        assert_eq!(told.len(), hl_harness::machine::EVENTS + 1);
        assert_eq!(told.last(), Some(&DeviceEvent::DeviceLost));
        user.close().unwrap();
        other.close().unwrap();
    });
}
