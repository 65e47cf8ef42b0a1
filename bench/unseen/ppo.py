# PPO: clipped surrogate, clipped value loss and entropy bonus, policy and value from one body.
import torch

torch.manual_seed(19)
N, S, A = 32, 5, 3
clip_eps, vf_coef, ent_coef = 0.2, 0.5, 0.01
states = torch.randn(N, S)
actions = torch.randint(A, (N,))
old_logp = -torch.rand(N) - 0.5
adv = torch.randn(N)
returns = torch.randn(N)
body = (torch.randn(S, 16) * 0.5).requires_grad_()
pi_head = (torch.randn(16, A) * 0.5).requires_grad_()
v_head = (torch.randn(16, 1) * 0.5).requires_grad_()

adv = (adv - adv.mean()) / (adv.std() + 1e-8)
hid = torch.tanh(states @ body)
logp_all = torch.log_softmax(hid @ pi_head, dim=-1)
logp = logp_all.gather(1, actions[:, None]).squeeze(1)
ratio = torch.exp(logp - old_logp)
surr1 = ratio * adv
surr2 = torch.clamp(ratio, 1 - clip_eps, 1 + clip_eps) * adv
policy_loss = -torch.min(surr1, surr2).mean()
value = (hid @ v_head).squeeze(-1)
value_loss = (returns - value).pow(2).mean()
entropy = -(logp_all.exp() * logp_all).sum(-1).mean()
loss = policy_loss + vf_coef * value_loss - ent_coef * entropy
