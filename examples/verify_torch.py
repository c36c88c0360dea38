"""A flow written by hand in torch: verified as it is, and with a fault that its training would never show."""

import torch

import refflow


class Coupling(torch.nn.Module):
    """y_b = x_b exp(s(x_a)) + t(x_a), y_a = x_a; log|det J| = sum s."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = x.chunk(2, dim=-1)
        s, t = self.net(a).chunk(2, dim=-1)
        return torch.cat([a, b * s.exp() + t], dim=-1), s.sum(-1)

    def inverse(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = y.chunk(2, dim=-1)
        s, t = self.net(a).chunk(2, dim=-1)
        return torch.cat([a, (b - t) * (-s).exp()], dim=-1), -s.sum(-1)


class MeanForSum(Coupling):
    """The same map, but both log-determinants are means: they still cancel, and samples still come back."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, log_det = super().forward(x)
        return y, log_det / 2

    def inverse(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, log_det = super().inverse(y)
        return x, log_det / 2


def main() -> None:
    torch.manual_seed(0)
    report = refflow.verify(Coupling(), event_shape=(4,), level="quick")
    print(report)
    assert report.ok

    broken = refflow.verify(MeanForSum(), event_shape=(4,), level="quick")
    print(broken)
    assert not broken.ok
    assert {check.id for check in broken.of("fail")} == {"LD1", "LD2"}


if __name__ == "__main__":
    main()
