//! The Job controller for Jobs of one pod that is never tried again.

use std::time::Duration;

use serde_json::{Value, json};

use super::Players;
use crate::{
    api_server::Kind,
    objects::{condition_holds, is_deleting, is_owned_by, name, text, uid},
};

impl Players {
    pub(super) fn jobs(&mut self) {
        for job in self.api.list(Kind::Job) {
            let ended = condition_holds(&job, "Complete") || condition_holds(&job, "Failed");
            if !is_deleting(&job) && !ended {
                self.job(&job);
            }
        }
    }

    fn job(&mut self, job: &Value) {
        let pods = self.api.list(Kind::Pod);
        let pod = pods.iter().find(|pod| is_owned_by(pod, uid(job)));
        match pod.map(|pod| text(pod, "/status/phase")) {
            None if self.due.contains_key(&format!("made {}", uid(job))) => {
                self.end_job(job, "Failed", "BackoffLimitExceeded");
            }
            None if self.ripe(format!("pod of {}", uid(job)), Duration::from_millis(200)) => {
                let labels = [("batch.kubernetes.io/job-name", name(job))];
                self.create_pod(("Job", job), &format!("{}-", name(job)), &job["spec"]["template"], &labels);
                let far = self.clock.now().checked_add(Duration::from_hours(24));
                self.due.insert(format!("made {}", uid(job)), far.unwrap_or(self.clock.now()));
            }
            Some("Succeeded") => self.end_job(job, "Complete", "CompletionsReached"),
            Some("Failed") => self.end_job(job, "Failed", "BackoffLimitExceeded"),
            _ => {}
        }
    }

    fn end_job(&self, job: &Value, condition: &str, reason: &str) {
        let now = self.clock.now().to_string();
        let mut status = json!({
            "startTime": job["metadata"]["creationTimestamp"],
            "conditions": [{
                "type": condition, "status": "True", "reason": reason, "message": "in the controller's words",
                "lastTransitionTime": now, "lastProbeTime": now,
            }],
        });
        if condition == "Complete" {
            status["completionTime"] = json!(now);
            status["succeeded"] = json!(1);
        } else {
            status["failed"] = json!(1);
        }
        self.write_status(Kind::Job, job, &status);
    }
}
