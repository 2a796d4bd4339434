"""Numbers for attacks/sneaky_prompt/policy_test.cc: SneakyPrompt's policy as PyTorch modules.

Weights are sines, so that the test can make the same ones. Prints the loss before each of three
steps of Adam on the same picks and reward, and sums over the weights behind them.

  python tools/policy_reference.py      (torch 2.11.0)
"""

import torch
from torch import nn

WIDTH, CHOICES, PICKS, REWARD, LR = 30, 5, [2, 0, 4], 0.7, 0.1


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = [1] + [CHOICES] * (len(PICKS) - 1)
        self.embedding = nn.ModuleList(nn.Embedding(size, WIDTH) for size in sizes)
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.logits = nn.ModuleList(nn.Linear(WIDTH, CHOICES) for _ in PICKS)
        self.value = nn.ModuleList(nn.Linear(WIDTH, 1) for _ in PICKS)

    def loss(self):
        state, last, total = None, 0, 0.0
        for stage, pick in enumerate(PICKS):
            x = self.embedding[stage](torch.tensor([[last]]))
            x, state = self.lstm(x, state)
            log_p = torch.distributions.Categorical(
                logits=self.logits[stage](x[0, 0])).log_prob(torch.tensor(pick))
            advantage = REWARD - self.value[stage](x[0, 0])[0]
            total = total - log_p * advantage.detach() + advantage**2
            last = pick
        return total


policy = Policy()
for k, (name, weight) in enumerate(sorted(policy.named_parameters())):
    i = torch.arange(weight.numel(), dtype=torch.float64)
    weight.data = (0.3 * torch.sin(0.37 * (i + 1) + k)).float().view_as(weight)
policy.embedding[0].weight.requires_grad_(False)
adam = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], lr=LR)
for step in range(3):
    adam.zero_grad()
    loss = policy.loss()
    loss.backward()
    adam.step()
    print(f"loss {step}: {loss.item():.8f}")
for name, weight in sorted(policy.named_parameters()):
    print(f"{name}: {weight.double().abs().sum().item():.6f}")
