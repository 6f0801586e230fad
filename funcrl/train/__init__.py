from funcrl.train.on_policy import OnPolicyRun
